-- +goose Up

-- Per "topic/partition": where the log ended, at least, before the chunk. A
-- broker whose log ends before it has lost what it had acknowledged.
alter table relay_journal add column ends jsonb not null default '{}';
