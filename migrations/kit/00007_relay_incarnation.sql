-- Which life of the server this is. Transaction numbers and ids that a crash
-- kept out of the WAL are given out again after it, so a snapshot from before
-- says nothing about what comes after. Unlogged: a crash, and a promotion,
-- empties the table; a clean shutdown, which loses nothing, keeps its row.
-- +goose Up

create unlogged table relay_incarnation (
  one boolean not null primary key default true check (one),
  id  uuid    not null default gen_random_uuid()
);
