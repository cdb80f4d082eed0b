#!/bin/sh
# Writes records from the beginning of each topic into it once more.
#
# See: every service drops them, though the orders ended long ago.
# Undo: nothing to undo; the audit sets them aside, because they are marked.
#
# Use: chaos/replay.sh
. "$(dirname "$0")/lib.sh"

broken replay
