#!/bin/sh
# Orders what is sold out, and what a customer cannot pay.
#
# See: each order is cancelled, and stock and money are as before.
# Undo: nothing to undo.
#
# Use: chaos/out-of-stock.sh
. "$(dirname "$0")/lib.sh"

"$PAVANE" order --sku gift-card --count 5
"$PAVANE" order --customer cust-20 --count 5
audited
