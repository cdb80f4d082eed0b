#!/bin/sh
# Takes a service down and leaves it down.
#
# See: the others go on; orders wait for its step, or their deadline cancels them.
# Undo: it is started after $FOR.
#
# Use: chaos/down.sh [SERVICE]
. "$(dirname "$0")/lib.sh"

broken down "${1:-payment-svc}"
