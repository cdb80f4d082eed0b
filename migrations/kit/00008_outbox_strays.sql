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

-- As before; and outbox_default is emptied, whole as a partition is dropped,
-- when all its rows are from before keep_from.
-- +goose StatementBegin
create or replace function outbox_drop(keep_from timestamptz) returns text
language plpgsql as $$
declare
  part   record;
  newest timestamptz;
begin
  select max(d.created_at) into newest from outbox_default d;
  if newest < keep_from then
    -- Looked at again when nobody else can add a row any more.
    lock table outbox_default in access exclusive mode;
    select max(d.created_at) into newest from outbox_default d;
  end if;
  if newest < keep_from then
    truncate outbox_default;
    insert into outbox_reach as r (since) values (newest + interval '1 microsecond')
      on conflict (one) do update set since = greatest(r.since, excluded.since);
    return 'outbox_default';
  end if;
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
