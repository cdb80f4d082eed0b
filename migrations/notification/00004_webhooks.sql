-- +goose Up

-- At most one webhook per order and kind, whatever is delivered again. It has a
-- table of its own beside the mails, so that neither waits for the other's receiver.
create table webhooks (
  order_id    text        not null,
  kind        text        not null check (kind in ('confirmed', 'cancelled', 'receipt')),
  body        text        not null, -- JSON, the same bytes with each attempt
  -- pending: to be sent; sent: the receiver answered that it has it.
  state       text        not null default 'pending' check (state in ('pending', 'sent')),
  attempts    integer     not null default 0, -- how often a sender took it up
  next_at     timestamptz not null default clock_timestamp(), -- not to be taken up before
  created_at  timestamptz not null default clock_timestamp(),
  sent_at     timestamptz,
  last_error  text        not null default '', -- of the last attempt that failed
  refused     boolean     not null default false, -- the receiver said that it will never take it
  traceparent text        not null default '', -- of the reaction that wrote it
  primary key (order_id, kind),
  check ((state = 'sent') = (sent_at is not null))
) with (fillfactor = 70);

create index webhooks_due on webhooks (next_at) where state = 'pending';
