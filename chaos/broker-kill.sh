#!/bin/sh
# Kills Kafka with kill -9.
#
# See: as when it stops; what the relays send again, the broker recognises.
# Undo: it is started after $FOR.
#
# Use: chaos/broker-kill.sh
. "$(dirname "$0")/lib.sh"

broken broker-kill
