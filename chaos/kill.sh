#!/bin/sh
# Kills a service with kill -9; the demo starts it again.
#
# See: orders wait for a moment where they need it, and go on.
# Undo: nothing: it runs again.
#
# Use: chaos/kill.sh [SERVICE]
. "$(dirname "$0")/lib.sh"

broken kill "${1:-payment-svc}"
