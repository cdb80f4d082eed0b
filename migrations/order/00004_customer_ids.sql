-- Customers' ids are what issuers of tokens put into sub, such as auth0|5f7c or
-- an e-mail address. See contract.IsCustomerID.
-- +goose Up
alter table customers drop constraint customers_customer_id_check,
  add constraint customers_customer_id_check check (customer_id ~ '^[A-Za-z0-9_|@+:/=-][A-Za-z0-9._|@+:/=-]{0,63}$') not valid;
