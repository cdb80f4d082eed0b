-- The inbox: what has been applied, from where reading goes on, what is parked.
-- +goose Up

-- The last applied number of each key of each source. Duplicate: at or below;
-- next: plus one; above that: a gap.
create table inbox (
  source     text        not null,
  key        text        not null,
  last_seq   bigint      not null check (last_seq > 0),
  applied_at timestamptz not null default clock_timestamp(),
  primary key (source, key)
) with (fillfactor = 70);

-- The offset that counts: written in the transaction of the effect. Kafka's
-- own group offset is a hint for lag tools. Whoever changes inbox or parked for
-- records of a partition holds the partition's row here.
create table inbox_offset (
  topic       text   not null,
  partition   integer not null,
  next_offset bigint not null,
  primary key (topic, partition)
) with (fillfactor = 50);

-- Records of keys that wait for an operator, for a missing predecessor or for
-- their next attempt, in order. While a key has a row here, every later record
-- of it is added here.
create table parked (
  source       text        not null, -- the topic when the record could not be decoded
  key          text        not null,
  sequence     bigint      not null, -- 0 when the record could not be decoded
  topic        text        not null,
  partition    integer     not null,
  record_offset bigint     not null,
  type         text        not null,
  headers      bytea       not null, -- as in the outbox
  payload      bytea       not null,
  reason       text        not null, -- why this record waits; followers say whom they follow
  -- fault, undecodable, unknown_version: an operator must act. gap: the record
  -- before it must come. retry: it is tried again at retry_at. follows: it is
  -- applied as soon as the one before it is.
  cause        text        not null check (cause in ('fault', 'gap', 'undecodable', 'unknown_version', 'retry', 'follows')),
  attempts     integer     not null default 0,
  retry_at     timestamptz check ((cause = 'retry') = (retry_at is not null)),
  parked_at    timestamptz not null default clock_timestamp(),
  primary key (topic, partition, record_offset)
);
create index parked_by_key on parked (source, key, sequence, record_offset);

-- Who moved which parked records, when and why. Sequence is the first one that
-- was parked; a discard's upto_seq is the last one that counts as handled.
create table parked_log (
  id       bigint generated always as identity primary key,
  action   text        not null check (action in ('redrive', 'discard')),
  source   text        not null,
  key      text        not null,
  sequence bigint      not null,
  upto_seq bigint      not null,
  records  integer     not null,
  who      text        not null,
  why      text        not null,
  at       timestamptz not null default clock_timestamp()
);
