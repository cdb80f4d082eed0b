-- Rows that a clock which jumped has put outside of all daily partitions. They
-- stand in outbox_default and are published as all others are.
-- +goose Up

-- As before; and a day that has rows in outbox_default gets no partition: moving
-- them would shut writers out. The other days are made all the same, or all
-- rows to come would land there, too.
-- +goose StatementBegin
create or replace function outbox_extend(days_ahead integer default 2) returns void
language plpgsql as $$
declare
  day  date;
  name text;
begin
  for day in select generate_series(0, days_ahead) + (clock_timestamp() at time zone 'UTC')::date loop
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

drop function outbox_drop(timestamptz);

-- outbox_drop drops the oldest partition that lies wholly before keep_from and
-- returns its name, or null. outbox_default is emptied, whole, when all its rows
-- are from before. The caller answers for keep_from: of the rows that published
-- shows, everything older is in the log. A row that came since, from a
-- transaction that was open for that long, keeps its partition: that is looked
-- at when nobody can add one any more. A drop waits for all who use the outbox,
-- and all who come wait behind it: call it under a lock_timeout of milliseconds,
-- one drop a transaction.
-- +goose StatementBegin
create function outbox_drop(keep_from timestamptz, published pg_snapshot) returns text
language plpgsql as $$
declare
  name  text;
  upto  timestamptz;
  stays boolean;
begin
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
