-- The order service: catalogue, customers, orders, idempotency keys, deadlines.
-- +goose Up

-- The catalogue. Prices are fixed here and nowhere else.
create table products (
  sku      text   not null primary key check (sku ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
  name     text   not null check (name <> ''),
  price    bigint not null check (price > 0), -- minor units
  currency text   not null check (currency ~ '^[A-Z]{3}$')
);

create table customers (
  customer_id text not null primary key check (customer_id ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
  name        text not null check (name <> ''),
  email       text not null check (email like '_%@_%')
);

create table orders (
  order_id       uuid        not null primary key, -- version 7: newest last
  customer_id    text        not null references customers,
  email          text        not null, -- as it was when the order was placed
  state          text        not null default 'placed',
  reason         text,
  detail         text        not null default '',
  items          jsonb       not null, -- [{"sku", "quantity", "unit_price"}], written once
  total          bigint      not null check (total > 0), -- minor units
  currency       text        not null check (currency ~ '^[A-Z]{3}$'),
  payment_method text        not null check (payment_method in ('wallet')),
  -- The number of events published for the order: the next one is version + 1.
  version        bigint      not null default 1,
  placed_at      timestamptz not null default clock_timestamp(),
  decided_at     timestamptz,
  captured_at    timestamptz,
  voided_at      timestamptz,
  shipped_at     timestamptz,
  released_at    timestamptz,
  constraint orders_state check (
       state = 'placed'    and reason is null and decided_at is null     and version = 1
    or state = 'confirmed' and reason is null and decided_at is not null and version = 2
    or state = 'cancelled' and reason is not null and decided_at is not null and version = 2
       and reason in ('out_of_stock', 'payment_declined', 'customer', 'deadline')),
  constraint orders_effects check (
       (captured_at is null or state = 'confirmed') and (shipped_at is null or state = 'confirmed')
    and (voided_at is null or state = 'cancelled') and (released_at is null or state <> 'confirmed'))
);

-- Not a check constraint: that would look at the items, which never change, with
-- each change of the state, at several times the cost of the change itself.
-- +goose StatementBegin
create function order_items_sound() returns trigger language plpgsql as $$
begin
  if (select coalesce(
        count(*) between 1 and 100
        and count(distinct i ->> 'sku') = count(*)
        and bool_and((i ->> 'quantity')::bigint between 1 and 1000 and (i ->> 'unit_price')::bigint > 0)
        and sum((i ->> 'quantity')::numeric * (i ->> 'unit_price')::numeric) = new.total, false)
      from jsonb_array_elements(new.items) i) then
    return new;
  end if;
  raise exception 'order %: its items are unsound or do not sum to %', new.order_id, new.total
    using errcode = 'check_violation', constraint = 'orders_items_sum';
end $$;
-- +goose StatementEnd
create trigger orders_items_sum before insert or update of items, total on orders
  for each row execute function order_items_sound();

create index orders_by_state on orders (state, order_id);
create index orders_by_customer on orders (customer_id, order_id);

-- A key names one order of one customer: another customer's key is another key.
-- It is claimed before the order is written, so the reference waits for commit.
create table idempotency (
  customer_id text        not null,
  key         text        not null check (length(key) between 1 and 255),
  body_hash   bytea       not null check (length(body_hash) = 32),
  order_id    uuid        not null references orders deferrable initially deferred,
  created_at  timestamptz not null default clock_timestamp(),
  primary key (customer_id, key)
);

-- One row for each order that is placed and not decided; the decision deletes it.
create table deadlines (
  order_id uuid        not null primary key references orders,
  due_at   timestamptz not null,
  try_at   timestamptz not null, -- due_at, later only after a failed attempt
  attempts integer     not null default 0 check (attempts >= 0)
);
create index deadlines_by_try on deadlines (try_at);
