#!/bin/sh
# Loses, cuts off or delays answers to one service; its requests were carried out.
#
# See: it asks again, and nothing happens twice.
# Undo: it ends after $FOR.
#
# Use: chaos/lost-answers.sh [SERVICE] [broker|postgres]
. "$(dirname "$0")/lib.sh"

broken answers "${1:-order-svc}" "${2:-postgres}"
