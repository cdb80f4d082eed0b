#!/bin/sh
# Has each answer of Kafka or Postgres to one service come 200 ms later.
#
# See: its steps take longer.
# Undo: it ends after $FOR.
#
# Use: chaos/latency.sh [SERVICE] [broker|postgres]
. "$(dirname "$0")/lib.sh"

broken latency "${1:-inventory-svc}" "${2:-postgres}"
