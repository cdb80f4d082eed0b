-- Stock, its ledger and the reservations of orders.
-- +goose Up

-- One row per SKU. Nobody changes it directly: each change is an entry of
-- stock_ledger, whose trigger changes the row.
create table stock (
  sku       text   not null primary key check (sku <> ''),
  available bigint not null default 0,
  reserved  bigint not null default 0,
  sold      bigint not null default 0,
  constraint stock_available_covers check (available >= 0),
  constraint stock_reserved_covers check (reserved >= 0),
  constraint stock_sold_grows check (sold >= 0)
) with (fillfactor = 50);

-- What became of each order's items. "new" lives only inside the transaction
-- that adds the row; "refused" is the tombstone of a cancellation that came
-- before its order.
create table reservations (
  order_id   text        not null primary key check (order_id <> ''),
  state      text        not null default 'new'
             check (state in ('new', 'reserved', 'rejected', 'shipped', 'released', 'refused')),
  items      jsonb       not null default '[]' check (jsonb_typeof(items) = 'array'),
  reason     text        not null default '', -- for people: why it was rejected or refused
  version    bigint      not null default 0 check (version >= 0), -- events published about this order
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
) with (fillfactor = 70);

-- Each change of stock, once, for ever.
create table stock_ledger (
  entry_id  bigint      generated always as identity primary key,
  sku       text        not null references stock (sku),
  kind      text        not null check (kind in ('receive', 'reserve', 'release', 'ship')),
  quantity  bigint      not null check (quantity > 0),
  order_id  text        references reservations (order_id),
  reference text        unique, -- what a receipt is known by outside, so that it is booked once
  -- A release and a ship take back exactly what was reserved.
  settles   text        generated always as (case when kind in ('release', 'ship') then 'reserve' end) stored,
  at        timestamptz not null default clock_timestamp(),
  constraint stock_ledger_once unique (order_id, sku, kind),
  constraint stock_ledger_exact unique (order_id, sku, kind, quantity),
  constraint stock_ledger_settles foreign key (order_id, sku, settles, quantity)
    references stock_ledger (order_id, sku, kind, quantity),
  constraint stock_ledger_belongs check ((kind = 'receive') = (order_id is null) and (kind = 'receive') = (reference is not null))
);
-- What was reserved is either shipped or released.
create unique index stock_ledger_settled_once on stock_ledger (order_id, sku) where kind in ('release', 'ship');
create index stock_ledger_by_sku on stock_ledger (sku, kind);

-- +goose StatementBegin
create function stock_follows_ledger() returns trigger language plpgsql as $$
begin
  update stock set
    available = available + case new.kind when 'receive' then new.quantity when 'release' then new.quantity
                                          when 'reserve' then -new.quantity else 0 end,
    reserved  = reserved  + case new.kind when 'reserve' then new.quantity when 'receive' then 0 else -new.quantity end,
    sold      = sold      + case new.kind when 'ship' then new.quantity else 0 end
  where sku = new.sku;
  return null;
end $$;
-- +goose StatementEnd
create trigger stock_follows_ledger after insert on stock_ledger
  for each row execute function stock_follows_ledger();

-- +goose StatementBegin
create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% of % refused: %', lower(tg_op), tg_table_name, tg_argv[0] using errcode = 'restrict_violation';
end $$;
-- +goose StatementEnd

-- A trigger's depth is 0 for a statement that a client sent and 1 for the
-- update made by stock_follows_ledger.
create trigger stock_starts_empty before insert on stock for each row
  when (new.available <> 0 or new.reserved <> 0 or new.sold <> 0)
  execute function refuse_change('a new SKU starts with nothing; add an entry to stock_ledger');
create trigger stock_changes_by_ledger before update on stock for each row when (pg_trigger_depth() = 0)
  execute function refuse_change('add an entry to stock_ledger, it changes the stock');
create trigger stock_stays before delete on stock for each row
  execute function refuse_change('its entries tell its history');
create trigger stock_ledger_stays before update or delete on stock_ledger for each row
  execute function refuse_change('entries stand; add one that takes it back');
create trigger stock_ledger_is_whole before truncate on stock_ledger
  execute function refuse_change('entries stand; add one that takes it back');
