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

-- From when on rows are there; no row: nothing was ever dropped.
create table outbox_reach (
  one   boolean     not null primary key default true check (one),
  since timestamptz not null
);
-- Of a database from before it is not known; so what the oldest partition holds.
insert into outbox_reach (since)
select to_date(right(min(c.relname), 8), 'YYYYMMDD')::timestamp at time zone 'UTC'
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'outbox'::regclass and c.relname ~ '^outbox_[0-9]{8}$'
having (select min(o.id) from outbox o) > 1;

-- As before, and it notes what is gone.
-- +goose StatementBegin
create or replace function outbox_drop(keep_from timestamptz) returns text
language plpgsql as $$
declare
  part record;
begin
  select c.oid, c.relname, (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC' as upto into part
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent = 'outbox'::regclass and c.relname ~ '^outbox_[0-9]{8}$'
    and (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC' <= keep_from
  order by c.relname limit 1;
  if found then
    execute format('drop table %s', part.oid::regclass);
    insert into outbox_reach as r (since) values (part.upto) on conflict (one) do update set since = greatest(r.since, excluded.since);
  end if;
  return part.relname;
end $$;
-- +goose StatementEnd
