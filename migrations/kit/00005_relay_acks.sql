-- Cheaper rows: the outbox keeps only the headers that do not follow from its other columns,
-- and an acknowledgement is a row of its own: nothing the relay does under load
-- leaves a dead row behind.
-- +goose Up

comment on column outbox.headers is
  'header section of a Kafka v2 record with what the other columns do not tell: source, correlation id where it is not the key, cause, trace; a section with ce_specversion is complete';

-- The one who appends checks it; a constraint is compiled anew for each statement
-- and costs as much as the rest of a small insert.
alter table outbox drop constraint outbox_sequence_check;

-- One row says that a chunk of the journal is in the log.
create table relay_ack (
  chunk    bigint      not null primary key,
  acked_at timestamptz not null,
  -- Per "topic/partition": the offset of the chunk's first record; -1 unknown.
  offsets  jsonb       not null
);
insert into relay_ack (chunk, acked_at, offsets)
select chunk, acked_at, coalesce(offsets, '{}') from relay_journal where acked_at is not null;

alter table relay_journal drop column acked_at, drop column offsets, reset (fillfactor);
