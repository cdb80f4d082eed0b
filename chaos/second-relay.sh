#!/bin/sh
# Runs a second instance of a service, with a second relay on the same outbox.
#
# See: each event is in the log once all the same.
# Undo: it is stopped after $FOR.
#
# Use: chaos/second-relay.sh [SERVICE]
. "$(dirname "$0")/lib.sh"

broken second "${1:-order-svc}"
