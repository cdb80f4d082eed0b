#!/bin/sh
# Stops Postgres at once, as pg_ctl -m immediate does.
#
# See: requests fail until it is back; what was answered is kept.
# Undo: it is started after $FOR.
#
# Use: chaos/postgres-down.sh
. "$(dirname "$0")/lib.sh"

broken postgres
