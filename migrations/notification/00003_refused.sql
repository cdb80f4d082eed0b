-- +goose Up

-- The mail server has said of this mail that it will never take it. It is tried
-- again all the same, and somebody should look.
alter table mails add column refused boolean not null default false;
