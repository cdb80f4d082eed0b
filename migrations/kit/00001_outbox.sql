-- The outbox and the relay's journal. shared/relay/DESIGN.md tells how they are read.
-- +goose Up

create sequence outbox_id_seq cache 1;

-- Insert-only. Nothing is ever updated or deleted; partitions are dropped whole.
create table outbox (
  -- Defaults are drawn in column order: xid stands before id, so an id is never
  -- older than the transaction that drew it. The relay's lower bound rests on it.
  xid        xid8        not null default pg_current_xact_id(),
  id         bigint      not null default nextval('outbox_id_seq'),
  topic      text        not null,
  key        text        not null,
  sequence   bigint      not null check (sequence > 0),
  event_id   text        not null,
  type       text        not null,
  headers    bytea       not null, -- the header section of a Kafka v2 record, as it goes on the wire
  payload    bytea       not null, -- bytes, not jsonb: reading jsonb back costs the drain a factor of five
  created_at timestamptz not null default clock_timestamp()
) partition by range (created_at);

-- By id the relay reads a set in order without a sort; by xid it finds the few
-- rows of transactions that were open when the last set was cut.
create index outbox_by_id  on outbox (id);
create index outbox_by_xid on outbox (xid, id);

-- Rows land here only when no partition was made for their time in time.
create table outbox_default partition of outbox default;

-- One row fixes a chunk before it is sent. Whoever sends it again sends the
-- same bytes; its primary key lets no two relays plan different chunks.
create table relay_journal (
  chunk           bigint      not null primary key,
  -- The set: rows visible in target and not visible in prev. prev_id and
  -- prev_xid bound the search: rows of transactions later than prev_xid have
  -- ids above prev_id.
  prev            pg_snapshot not null,
  prev_id         bigint      not null,
  prev_xid        xid8        not null,
  target          pg_snapshot not null,
  target_id       bigint      not null,
  target_xid      xid8        not null default pg_current_xact_id(),
  -- The chunk: the set's rows with after_id < id <= upto_id.
  after_id        bigint      not null,
  upto_id         bigint      not null,
  row_count       integer     not null,
  last_of_set     boolean     not null,
  producer_id     bigint      not null,
  producer_epoch  smallint    not null,
  -- Per "topic/partition": the sequence number of the chunk's first record
  -- there, and how many it has; partitions without rows carry on their number.
  first_sequences jsonb       not null,
  counts          jsonb       not null,
  -- The timestamp of the chunk's records. Kafka forgets a producer by the
  -- timestamps of its records, so an old row must not bring an old one along.
  stamp_ms        bigint      not null,
  planned_at      timestamptz not null default clock_timestamp(),
  acked_at        timestamptz,
  -- Per "topic/partition": the offset of the chunk's first record.
  offsets         jsonb,
  -- Per "topic/partition" whose batch Kafka refused: the sizes of the pieces
  -- that are in the log, the offset of the first one, and the size of the piece
  -- that is sent next (0 or absent: the rest). Written before a piece is sent,
  -- so that whoever sends the chunk again cuts it in the same places.
  progress        jsonb       not null default '{}'
) with (fillfactor = 50);

-- Keys with a row that Kafka refuses for itself. The relay leaves out the key's
-- rows: those of the topic from since_id on, and all that later chunks would hold.
create table relay_parked (
  key       text        not null,
  topic     text        not null,
  since_id  bigint      not null, -- the row that was refused
  chunk     bigint      not null, -- the chunk that held it
  reason    text        not null, -- Kafka's answer
  parked_at timestamptz not null default clock_timestamp(),
  primary key (key, topic)
);

-- The database cluster whose transaction ids the journal speaks of. A dump
-- restored elsewhere brings the journal along; the relay then refuses to run.
create table relay_identity (
  one               boolean     not null primary key default true check (one),
  system_identifier text        not null,
  adopted_at        timestamptz not null default clock_timestamp()
);

-- outbox_rotate makes the daily partitions of today and the coming days and
-- drops those that lie wholly before keep_from. It returns the names of the
-- dropped ones. The caller answers for keep_from: everything older is in the
-- log. A short lock_timeout in the caller's transaction keeps writers moving.
-- +goose StatementBegin
create function outbox_rotate(keep_from timestamptz, days_ahead integer default 2) returns setof text
language plpgsql as $$
declare
  day date;
  part record;
begin
  for day in select generate_series(0, days_ahead) + (clock_timestamp() at time zone 'UTC')::date loop
    if to_regclass(format('outbox_%s', to_char(day, 'YYYYMMDD'))) is null then
      execute format('create table %I partition of outbox for values from (%L) to (%L)',
        'outbox_' || to_char(day, 'YYYYMMDD'), day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
    end if;
  end loop;
  for part in
    select c.oid, c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'outbox'::regclass and c.relname ~ '^outbox_[0-9]{8}$'
  loop
    if (to_date(right(part.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC' <= keep_from then
      execute format('drop table %s', part.oid::regclass);
      return next part.relname;
    end if;
  end loop;
end $$;
-- +goose StatementEnd

select outbox_rotate('-infinity');
