#!/bin/sh
# Loses, cuts off or delays a few requests of one service, or the answers to them.
#
# See: it asks again, whether they were carried out or not, and nothing happens twice.
# Undo: it ends after $FOR.
#
# Use: chaos/lost-answers.sh [SERVICE] [broker|postgres]
. "$(dirname "$0")/lib.sh"

broken answers "${1:-order-svc}" "${2:-postgres}"
