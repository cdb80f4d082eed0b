#!/bin/sh
# Writes records that nobody can handle, under keys of no order.
#
# See: the services park these keys (pavane parked list); all orders go on.
# Undo: the keys stay parked until somebody discards them.
#
# Use: chaos/poison.sh
. "$(dirname "$0")/lib.sh"

broken poison
"$PAVANE" parked list | head -n 5
