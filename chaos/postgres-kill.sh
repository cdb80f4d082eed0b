#!/bin/sh
# Kills Postgres with kill -9.
#
# See: as when it stops at once.
# Undo: it is started after $FOR.
#
# Use: chaos/postgres-kill.sh
. "$(dirname "$0")/lib.sh"

broken postgres-kill
