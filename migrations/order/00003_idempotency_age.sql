-- Idempotency keys are deleted when they are a day old; this finds them. While it
-- is made, which takes seconds with ten million keys, new orders wait.
-- +goose Up
create index idempotency_created_at on idempotency (created_at);
