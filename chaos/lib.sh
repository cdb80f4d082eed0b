# What the scripts beside this file share. Each breaks one thing in the demo that
# runs (make demo), or in the stack of compose.yaml and compose.chaos.yaml, places
# orders meanwhile, and ends with `pavane audit`. It exits with 0 when all orders
# have ended and the audit is clean.
#
#   FOR=10s       how long it stays broken
#   ORDERS=5      orders per second meanwhile
#   PAVANE_DIR=…  directory of the demo, when it is not the usual one;
#                 deploy/secrets/host for the stack of compose
#
# Ctrl-C heals at once.
set -eu
PAVANE=${PAVANE:-$(dirname "$0")/../bin/pavane}
FOR=${FOR:-10s}
ORDERS=${ORDERS:-5}

# broken KIND [SERVICE] [SERVER]: breaks it for a while, and audits.
broken() {
	"$PAVANE" break "$@" --for "$FOR" --orders "$ORDERS"
	audited
}

audited() { "$PAVANE" audit --settle 60s; }
