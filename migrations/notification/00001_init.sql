-- The mails of orders, and where they go.
-- +goose Up

-- One row per order that a fact has come for. Its lock makes the facts of an
-- order take turns: they come from two topics, so two instances may handle two
-- of them at the same time.
create table addressees (
  order_id text not null primary key,
  address  text not null -- empty until a fact that names it has come
);

-- At most one mail per order and kind, whatever is delivered again.
create table mails (
  order_id   text        not null,
  kind       text        not null check (kind in ('confirmed', 'cancelled', 'receipt')),
  recipient  text        not null,
  subject    text        not null,
  body       text        not null,
  -- held: the address is not known yet; pending: to be sent; sent: the mail
  -- server took it.
  state      text        not null check (state in ('held', 'pending', 'sent')),
  attempts   integer     not null default 0, -- how often a sender took it up
  next_at    timestamptz not null default clock_timestamp(), -- not to be taken up before
  created_at timestamptz not null default clock_timestamp(),
  sent_at    timestamptz,
  last_error text        not null default '', -- of the last attempt that failed
  primary key (order_id, kind),
  check ((state = 'held') = (recipient = '')),
  check ((state = 'sent') = (sent_at is not null))
) with (fillfactor = 70);

create index mails_due on mails (next_at) where state = 'pending';
