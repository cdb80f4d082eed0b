-- A consumer that comes late: where it began to read each partition.
-- +goose Up

-- The log's first offset at that moment. Above 0, records had gone from the log
-- before this service came, and a key that it meets there for the first time may
-- begin with any number. 0 also for what was begun before this migration, or by a
-- version from before it: there a number that is missing is missing.
alter table inbox_offset add column first_offset bigint not null default 0;
