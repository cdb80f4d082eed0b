#!/bin/sh
# Has each flush of Postgres take 100 ms longer, as a slow disk does.
#
# See: everything takes longer, and more transactions share a flush.
# Undo: it ends by itself after FOR; Ctrl-C ends it at once.
#
# Use: chaos/postgres-slow.sh
. "$(dirname "$0")/lib.sh"

broken postgres-slow
