#!/bin/sh
# Replaces the services one after the other as a rolling update does.
#
# See: no order fails.
# Undo: nothing: each runs again.
#
# Use: chaos/rolling-restart.sh
. "$(dirname "$0")/lib.sh"

for service in notification-svc inventory-svc payment-svc order-svc; do
	"$PAVANE" break roll "$service" --for "$FOR" --orders "$ORDERS"
done
audited
