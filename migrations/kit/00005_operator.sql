-- What an operator needs to move parked keys on.
-- +goose Up

-- foreign: the record does not belong on its topic; an operator must act.
alter table parked drop constraint parked_cause_check, add constraint parked_cause_check
  check (cause in ('fault', 'gap', 'undecodable', 'foreign', 'unknown_version', 'retry', 'follows'));

-- Without these, a look at what is due would cost as much as all that waits
-- behind one key.
create index parked_by_operator on parked (source, key) where cause not in ('retry', 'follows');
create index parked_by_retry    on parked (retry_at)    where cause = 'retry';

-- Keys that Kafka refused once and an operator let go: what relay_parked said
-- of them, and who did it and why. The rows that were held back are in the
-- outbox twice; the second copies, above upto_id, are the ones that are
-- published. The first ones stay, as everything in the outbox does.
create table relay_released (
  id         bigint generated always as identity primary key,
  key        text        not null,
  topic      text        not null,
  since_id   bigint      not null, -- the row that was refused
  chunk      bigint      not null, -- the chunk that held it, with its end and its set's target
  chunk_upto bigint      not null,
  target     pg_snapshot not null,
  upto_id    bigint      not null, -- rows above it go their way again
  reason     text        not null, -- Kafka's answer
  parked_at  timestamptz not null,
  action     text        not null check (action in ('redrive', 'discard')),
  records    integer     not null, -- rows that were copied
  who        text        not null,
  why        text        not null,
  at         timestamptz not null default clock_timestamp()
);
create index relay_released_by_key on relay_released (key);

-- outbox_replaced tells whether a row was held back for its key and copied
-- later: then the copy is published, and this one never is.
create function outbox_replaced(of_key text, of_topic text, of_id bigint, of_xid xid8) returns boolean
language sql stable as $$
  select exists (
    select from relay_released r
    where r.key = of_key and of_id <= r.upto_id
      and (r.topic = of_topic and of_id >= r.since_id or of_id > r.chunk_upto or not pg_visible_in_snapshot(of_xid, r.target)))
$$;
