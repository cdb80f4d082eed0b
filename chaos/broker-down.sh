#!/bin/sh
# Stops Kafka.
#
# See: orders are taken and wait; nothing is parked; afterwards they go on in order.
# Undo: it is started after $FOR.
#
# Use: chaos/broker-down.sh
. "$(dirname "$0")/lib.sh"

broken broker
