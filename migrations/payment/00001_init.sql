-- Payments of orders and the double-entry ledger of the money behind them.
-- +goose Up

-- What became of each order's payment, and the facts it waits for. "refused"
-- is the tombstone of an order cancelled before anything was authorised.
create table payments (
  order_id     text        not null primary key check (order_id <> ''),
  state        text        not null default 'waiting'
               check (state in ('waiting', 'authorized', 'declined', 'captured', 'voided', 'refused')),
  has_placed   boolean     not null default false, -- order.placed is known
  has_reserved boolean     not null default false, -- inventory.reserved is known
  customer_id  text        not null default '',
  amount       bigint      not null default 0 check (amount >= 0), -- minor units
  currency     text        not null default '',
  method       text        not null default '',
  reason       text        not null default '', -- for people: why it was declined
  version      bigint      not null default 0 check (version >= 0), -- events published about this order
  created_at   timestamptz not null default clock_timestamp(),
  updated_at   timestamptz not null default clock_timestamp(),
  constraint payments_known check (not has_placed or (customer_id <> '' and currency ~ '^[A-Z]{3}$')),
  constraint payments_in_time check (state in ('waiting', 'refused') or (has_placed and has_reserved))
) with (fillfactor = 70);

-- customer: what a customer may spend. held: what is set aside for orders.
-- merchant: what was earned. funding: the world outside, which pays in; it may
-- go below zero, and all balances together are zero.
create table accounts (
  -- Not a generated column: beside a trigger before update, a generated key
  -- makes each update lock the row against the foreign keys of other transfers,
  -- and two transfers at once deadlock.
  account_id  text        not null primary key,
  kind        text        not null check (kind in ('customer', 'held', 'merchant', 'funding')),
  customer_id text        check (customer_id <> ''),
  currency    text        not null check (currency ~ '^[A-Z]{3}$'),
  balance     bigint      not null default 0, -- minor units; the sum of the account's entries
  opened_at   timestamptz not null default clock_timestamp(),
  constraint accounts_name check (account_id = kind || coalesce(':' || customer_id, '') || ':' || currency),
  constraint accounts_owner check ((kind in ('customer', 'held')) = (customer_id is not null)),
  constraint accounts_covered check (kind not in ('customer', 'held') or balance >= 0)
) with (fillfactor = 50);
create index accounts_by_customer on accounts (customer_id);

-- A transfer moves one amount from one account to another: two entries.
create table transfers (
  transfer_id bigint      generated always as identity primary key,
  kind        text        not null check (kind in ('deposit', 'authorize', 'capture', 'void')),
  order_id    text        references payments (order_id),
  reference   text        unique, -- what a deposit is known by outside, so that it is booked once
  -- A capture and a void each need the authorisation that they settle.
  settles     text        generated always as (case when kind in ('capture', 'void') then 'authorize' end) stored,
  at          timestamptz not null default clock_timestamp(),
  constraint transfers_once unique (order_id, kind),
  constraint transfers_settle foreign key (order_id, settles) references transfers (order_id, kind),
  constraint transfers_belong check ((kind = 'deposit') = (order_id is null) and (kind = 'deposit') = (reference is not null))
);
-- What was authorised is either captured or voided.
create unique index transfers_settled_once on transfers (order_id) where kind in ('capture', 'void');

-- Leg 1 takes, leg 2 gives; no transfer can ever get a third.
create table entries (
  transfer_id bigint   not null references transfers (transfer_id),
  leg         smallint not null,
  account_id  text     not null references accounts (account_id),
  amount      bigint   not null, -- minor units, signed
  primary key (transfer_id, leg),
  constraint entries_direction check ((leg = 1 and amount <= 0) or (leg = 2 and amount >= 0))
);
create index entries_by_account on entries (account_id);

-- +goose StatementBegin
create function balance_follows_entries() returns trigger language plpgsql as $$
begin
  update accounts set balance = balance + new.amount where account_id = new.account_id;
  return null;
end $$;
-- +goose StatementEnd
create trigger balance_follows_entries after insert on entries
  for each row execute function balance_follows_entries();

-- At commit each new transfer has both entries, they sum to zero in one
-- currency for one customer, flow the way of their kind, and a capture or void
-- moves exactly what was authorised out of where it was held.
-- +goose StatementBegin
create function transfer_is_sound() returns trigger language plpgsql as $$
declare
  s record;
begin
  select count(*) as legs, sum(e.amount) as total, count(distinct a.currency) as currencies,
         count(distinct a.customer_id) as customers, string_agg(a.kind, ' to ' order by e.leg) as flow
    into s
    from entries e join accounts a on a.account_id = e.account_id
    where e.transfer_id = new.transfer_id;
  if s.legs <> 2 or s.total <> 0 or s.currencies <> 1 or s.customers <> 1 then
    raise exception 'transfer % (%) is unsound: % entries with the sum % in % currencies of % customers',
      new.transfer_id, new.kind, s.legs, s.total, s.currencies, s.customers using errcode = 'check_violation';
  end if;
  if s.flow <> (case new.kind when 'deposit' then 'funding to customer' when 'authorize' then 'customer to held'
                             when 'capture' then 'held to merchant' else 'held to customer' end) then
    raise exception 'transfer % (%) is unsound: it goes from %', new.transfer_id, new.kind, s.flow using errcode = 'check_violation';
  end if;
  if new.settles is not null and not exists (
    select from transfers t
      join entries held on held.transfer_id = t.transfer_id and held.leg = 2
      join entries mine on mine.transfer_id = new.transfer_id and mine.leg = 1
    where t.order_id = new.order_id and t.kind = new.settles
      and mine.account_id = held.account_id and mine.amount = -held.amount) then
    raise exception 'transfer % (%) is unsound: it does not settle what was authorised for order %',
      new.transfer_id, new.kind, new.order_id using errcode = 'check_violation';
  end if;
  return null;
end $$;
-- +goose StatementEnd
create constraint trigger transfer_is_sound after insert on transfers deferrable initially deferred
  for each row execute function transfer_is_sound();

-- +goose StatementBegin
create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% of % refused: %', lower(tg_op), tg_table_name, tg_argv[0] using errcode = 'restrict_violation';
end $$;
-- +goose StatementEnd

-- A trigger's depth is 0 for a statement that a client sent and 1 for the
-- update made by balance_follows_entries.
create trigger accounts_start_empty before insert on accounts for each row when (new.balance <> 0)
  execute function refuse_change('a new account starts with nothing; book a deposit');
create trigger accounts_change_by_entries before update on accounts for each row when (pg_trigger_depth() = 0)
  execute function refuse_change('book a transfer, its entries change the balance');
create trigger accounts_stay before delete on accounts for each row
  execute function refuse_change('its entries tell its history');
create trigger entries_stay before update or delete on entries for each row
  execute function refuse_change('entries stand; book a transfer that takes it back');
create trigger entries_are_whole before truncate on entries
  execute function refuse_change('entries stand; book a transfer that takes it back');
create trigger transfers_stay before update or delete on transfers for each row
  execute function refuse_change('transfers stand; book one that takes it back');
