-- What the runtime role cannot do itself, because it owns nothing: it calls
-- these functions, which act for their owner. Each looks for tables only in the
-- schema it lives in, so that nobody can put a table of his own in the way, and
-- only a role that is granted it may call it.
-- +goose Up

-- outbox_alone keeps writers off the outbox until the transaction ends. Readers
-- go on.
-- +goose StatementBegin
create function outbox_alone() returns void language plpgsql as $$
begin
  lock table outbox in share row exclusive mode;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
do $$
declare
  signature text;
begin
  foreach signature in array array['outbox_extend(integer)', 'outbox_drop(timestamptz, pg_snapshot)', 'outbox_alone()'] loop
    execute format('alter function %s security definer set search_path = %I, pg_temp', signature, current_schema());
    execute format('revoke execute on function %s from public', signature);
  end loop;
end $$;
-- +goose StatementEnd
