-- +goose Up

-- W3C traceparent of the reaction that wrote the mail; empty: nobody traces it.
alter table mails add column traceparent text not null default '';
