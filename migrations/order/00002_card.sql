-- Orders may be paid by card. The card's token is not kept here: it goes to the
-- payment service with order.placed.
-- +goose Up
alter table orders drop constraint orders_payment_method_check,
  add constraint orders_payment_method_check check (payment_method in ('wallet', 'card')) not valid;
