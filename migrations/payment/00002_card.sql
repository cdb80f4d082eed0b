-- Payments by card, which a provider holds, takes and gives back.
-- +goose Up

alter table payments add column card_token text not null default '', -- what the provider calls the card
  drop constraint payments_state_check,
  add constraint payments_state_check check (state in
    ('waiting', 'authorizing', 'authorized', 'declined', 'capturing', 'captured', 'voiding', 'voided', 'refused')) not valid;

-- What is wanted of the provider for an order, and the last that is known of its
-- charge there. The row is written before anybody asks the provider for anything.
create table charges (
  order_id   text        not null primary key references payments (order_id),
  wanted     text        not null default 'hold' check (wanted in ('hold', 'capture', 'void')),
  known      text        not null default 'none' check (known in ('none', 'held', 'refused', 'captured', 'voided')),
  -- There is still something to be asked for.
  due        boolean     not null generated always as
             (case wanted when 'hold' then known = 'none' when 'capture' then known <> 'captured' else known in ('none', 'held') end) stored,
  -- A request may have been sent whose answer is not noted: look before asking again.
  sent       boolean     not null default false,
  claims     bigint      not null default 0 check (claims >= 0), -- how often it was taken up; tells one claim from the next
  failures   integer     not null default 0 check (failures >= 0), -- in a row
  next_at    timestamptz not null default clock_timestamp(), -- not to be taken up before
  last_error text        not null default '',
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
) with (fillfactor = 70);
create index charges_due on charges (next_at) where due;

-- How far the provider's list of charges has been compared with ours.
create table charge_cursor (
  one   boolean not null primary key default true check (one),
  after bigint  not null default 0
);
insert into charge_cursor default values;

-- card: the provider's side, the world outside as funding is; it may go below zero.
alter table accounts drop constraint accounts_kind_check,
  add constraint accounts_kind_check check (kind in ('customer', 'held', 'merchant', 'funding', 'card')) not valid;

-- As before; and what is held may come from a card, and goes back where it came
-- from.
-- +goose StatementBegin
create or replace function transfer_is_sound() returns trigger language plpgsql as $$
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
  if s.flow <> all (case new.kind when 'deposit' then array['funding to customer'] when 'authorize' then array['customer to held', 'card to held']
                                  when 'capture' then array['held to merchant'] else array['held to customer', 'held to card'] end) then
    raise exception 'transfer % (%) is unsound: it goes from %', new.transfer_id, new.kind, s.flow using errcode = 'check_violation';
  end if;
  if new.settles is not null and not exists (
    select from transfers t
      join entries origin on origin.transfer_id = t.transfer_id and origin.leg = 1
      join entries held on held.transfer_id = t.transfer_id and held.leg = 2
      join entries mine on mine.transfer_id = new.transfer_id and mine.leg = 1
      join entries goal on goal.transfer_id = new.transfer_id and goal.leg = 2
    where t.order_id = new.order_id and t.kind = new.settles
      and mine.account_id = held.account_id and mine.amount = -held.amount
      and (new.kind <> 'void' or goal.account_id = origin.account_id)) then
    raise exception 'transfer % (%) is unsound: it does not settle what was authorised for order %',
      new.transfer_id, new.kind, new.order_id using errcode = 'check_violation';
  end if;
  return null;
end $$;
-- +goose StatementEnd
