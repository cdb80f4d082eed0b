-- Which event made the intent of a charge. What comes of the provider's answer is
-- told long after that event was handled, and names it as its cause.
-- +goose Up

alter table charges
  add column cause_id       text not null default '', -- empty: an intent of before
  add column correlation_id text not null default '',
  add column traceparent    text not null default '';
