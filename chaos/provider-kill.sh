#!/bin/sh
# Kills the card provider with kill -9, and starts it again after FOR.
#
# See: what it had answered stands in its ledger; each confirmed order is charged once.
# Undo: it ends by itself after FOR; Ctrl-C ends it at once.
#
# Use: chaos/provider-kill.sh
. "$(dirname "$0")/lib.sh"

broken provider-kill
