#!/bin/sh
# Parts one service from Kafka or Postgres: nothing passes, nothing is ended.
#
# See: only that service waits; what it had sent arrives late.
# Undo: joined after $FOR.
#
# Use: chaos/partition.sh [SERVICE] [broker|postgres]
. "$(dirname "$0")/lib.sh"

broken partition "${1:-payment-svc}" "${2:-broker}"
