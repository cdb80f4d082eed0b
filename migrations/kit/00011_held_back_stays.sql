-- What Kafka refuses, and what is held back behind it, stays wherever a clock that
-- went back has put it.
-- +goose Up

-- As before; and a partition stays that may hold a row which waits behind a refused
-- one: one above it, or of a transaction that its chunk's set does not show.
-- +goose StatementBegin
create or replace function outbox_drop(keep_from timestamptz, published pg_snapshot) returns text
language plpgsql as $$
declare
  name  text;
  upto  timestamptz;
  stays boolean;
  today timestamptz := date_trunc('day', clock_timestamp() at time zone 'UTC') at time zone 'UTC';
begin
  if keep_from > today then -- not by least, which would take no time at all for today
    keep_from := today;
  end if;
  select 'outbox_default', max(d.created_at) + interval '1 microsecond' into name, upto from outbox_default d
  having max(d.created_at) < keep_from;
  if not found then
    select c.relname, (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC' into name, upto
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'outbox'::regclass and c.relname ~ '^outbox_[0-9]{8}$'
      and (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC' <= keep_from
    order by c.relname limit 1;
  end if;
  if name is null then
    return null;
  end if;
  lock table outbox in access exclusive mode;
  execute format('select exists (select from %1$I o where o.xid >= pg_snapshot_xmin($1) and not pg_visible_in_snapshot(o.xid, $1))
    or exists (select from %1$I o where o.id >= (select min(p.since_id) from relay_parked p))
    or exists (select from %1$I o where o.xid >= (
      select pg_snapshot_xmin(j.target) from relay_journal j where j.chunk = (select min(p.chunk) from relay_parked p)))', name)
    into stays using published;
  if stays then
    return null;
  end if;
  if name = 'outbox_default' then
    truncate outbox_default;
  else
    execute format('drop table %I', name);
  end if;
  insert into outbox_reach as r (since) values (upto) on conflict (one) do update set since = greatest(r.since, excluded.since);
  return name;
end $$;
-- +goose StatementEnd

-- A function that is replaced acts for its caller again.
-- +goose StatementBegin
do $$
begin
  execute format('alter function outbox_drop(timestamptz, pg_snapshot) security definer set search_path = %I, pg_temp', current_schema());
  revoke execute on function outbox_drop(timestamptz, pg_snapshot) from public;
end $$;
-- +goose StatementEnd
