-- Making and dropping partitions apart, so that neither shuts writers out.
-- +goose Up

drop function outbox_rotate(timestamptz, integer);

-- outbox_extend makes the daily partitions of today and the coming days. A
-- partition is made as a table of its own and attached: that lets writers on,
-- while "create table … partition of" would shut them out.
-- +goose StatementBegin
create function outbox_extend(days_ahead integer default 2) returns void
language plpgsql as $$
declare
  day  date;
  name text;
begin
  for day in select generate_series(0, days_ahead) + (clock_timestamp() at time zone 'UTC')::date loop
    name := 'outbox_' || to_char(day, 'YYYYMMDD');
    if to_regclass(name) is null then
      execute format('create table %I (like outbox including all)', name);
      execute format('alter table outbox attach partition %I for values from (%L) to (%L)',
        name, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
    end if;
  end loop;
end $$;
-- +goose StatementEnd

-- outbox_drop drops the oldest partition that lies wholly before keep_from and
-- returns its name, or null. The caller answers for keep_from: everything older
-- is in the log. A drop waits for all who use the outbox, and all who come wait
-- behind it: call it under a lock_timeout of milliseconds, one drop a
-- transaction.
-- +goose StatementBegin
create function outbox_drop(keep_from timestamptz) returns text
language plpgsql as $$
declare
  part record;
begin
  select c.oid, c.relname into part from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent = 'outbox'::regclass and c.relname ~ '^outbox_[0-9]{8}$'
    and (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC' <= keep_from
  order by c.relname limit 1;
  if found then
    execute format('drop table %s', part.oid::regclass);
  end if;
  return part.relname;
end $$;
-- +goose StatementEnd
