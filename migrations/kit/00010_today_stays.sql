-- The runtime role calls outbox_extend and outbox_drop, so they must not do
-- whatever it says: rows of today stay, and nobody is made to look through
-- thousands of partitions.
-- +goose Up

-- As before, for a month ahead at most.
-- +goose StatementBegin
create or replace function outbox_extend(days_ahead integer default 2) returns void
language plpgsql as $$
declare
  day  date;
  name text;
begin
  for day in select generate_series(0, least(days_ahead, 31)) + (clock_timestamp() at time zone 'UTC')::date loop
    name := 'outbox_' || to_char(day, 'YYYYMMDD');
    if to_regclass(name) is null then
      begin
        execute format('create table %I (like outbox including all)', name);
        execute format('alter table outbox attach partition %I for values from (%L) to (%L)',
          name, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
      exception when check_violation then
        null; -- and what the block has made is undone
      end;
    end if;
  end loop;
end $$;
-- +goose StatementEnd

-- As before; and rows of today, and of days to come, stay whatever the caller
-- says. The day is the server's, in UTC. So rows go with whole days that are over,
-- or with outbox_default when all its rows are of such days. Whether they are
-- published is still for the caller to know: it wrote the journal that tells.
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
  execute format('select exists (select from %I o where o.xid >= pg_snapshot_xmin($1) and not pg_visible_in_snapshot(o.xid, $1))', name)
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

-- A function that is replaced acts for its caller again, and with the caller's
-- search path.
-- +goose StatementBegin
do $$
declare
  signature text;
begin
  foreach signature in array array['outbox_extend(integer)', 'outbox_drop(timestamptz, pg_snapshot)'] loop
    execute format('alter function %s security definer set search_path = %I, pg_temp', signature, current_schema());
    execute format('revoke execute on function %s from public', signature);
  end loop;
end $$;
-- +goose StatementEnd
