#!/bin/sh
# Makes a service's database and its two roles: the owner, who migrates, and the
# runtime role, which the service runs as and which owns nothing. Twice is
# harmless; the second time sets the passwords anew.
#
#   roles.sh orders payments …       each with NAME_owner and NAME as its roles
#
# The passwords come from the files NAME_owner and NAME in $PASSWORDS
# (/run/secrets by default, with $SUFFIX behind each name). The server is that of
# libpq's variables: PGHOST, PGPORT, PGUSER (a superuser), PGPASSFILE …
#
# As an init script of the official image it takes the names from $DATABASES and
# the server's own socket. SERVICE -migrate then does the rest, as the owner, with
# PAVANE_RUNTIME_ROLE=NAME.
set -eu

[ $# -gt 0 ] || set -- ${DATABASES:-orders payments inventory notifications}
passwords=${PASSWORDS:-/run/secrets}
export PGUSER="${PGUSER:-${POSTGRES_USER:-postgres}}"

# password prints what the file holds, or says which one is missing.
password() {
  file="$passwords/$1${SUFFIX:-}"
  [ -s "$file" ] || { echo "roles.sh: $file: not there or empty; write the password of role $1 into it" >&2; exit 1; }
  cat "$file"
}

for name in "$@"; do
  case $name in
    *[!a-z0-9_]* | [!a-z]*) echo "roles.sh: $name: want a name of a-z, 0-9 and _" >&2; exit 1 ;;
  esac
  # The variables, not arguments: those show in the list of processes.
  OWNER_PASSWORD=$(password "${name}_owner")
  RUNTIME_PASSWORD=$(password "$name")
  export OWNER_PASSWORD RUNTIME_PASSWORD
  psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --dbname "${POSTGRES_DB:-postgres}" --set name="$name" <<'SQL'
\set owner :name _owner
\getenv owner_password OWNER_PASSWORD
\getenv runtime_password RUNTIME_PASSWORD
set log_statement = none;
set log_min_error_statement = panic;
select format('create role %I', r) from unnest(array[:'owner', :'name']) r where not exists (select from pg_roles where rolname = r) \gexec
alter role :"owner" login nosuperuser nocreatedb nocreaterole password :'owner_password';
alter role :"name"  login nosuperuser nocreatedb nocreaterole password :'runtime_password';
-- Text is compared by its bytes, so no index depends on the version of a library
-- that knows how a language sorts.
select format('create database %I owner %I template template0 locale %L', :'name', :'owner', 'C') where not exists (select from pg_database where datname = :'name') \gexec
-- Nobody else connects, and nobody makes temporary tables.
revoke all on database :"name" from public;
grant connect on database :"name" to :"name";
\connect :"name"
revoke create on schema public from public;
SQL
done
