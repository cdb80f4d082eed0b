#!/bin/sh
# Stops a service as a rollout does, and starts it again.
#
# See: it finishes what it does first; hardly an order notices.
# Undo: nothing: it runs again.
#
# Use: chaos/restart.sh [SERVICE]
. "$(dirname "$0")/lib.sh"

broken restart "${1:-order-svc}"
