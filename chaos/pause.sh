#!/bin/sh
# Stops a service with SIGSTOP: it lives and does nothing.
#
# See: orders wait for its step; from 6 s on Kafka gives its partitions away, and what
#      it still believes when it wakes is refused.
# Undo: it is resumed after $FOR.
#
# Use: chaos/pause.sh [SERVICE]
. "$(dirname "$0")/lib.sh"

broken pause "${1:-inventory-svc}"
