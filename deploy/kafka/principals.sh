#!/bin/bash
# Gives each user of Kafka its password, and by acls.sh what it needs. Twice is
# harmless. It talks to the listener that only Kafka's own network namespace
# reaches.
set -euo pipefail
server=(--bootstrap-server "${KAFKA_ADMIN:-localhost:9094}")
bin=/opt/kafka/bin
export KAFKA_HEAP_OPTS=-Xmx128m

until (exec 3<>"/dev/tcp/${KAFKA_ADMIN_HOST:-localhost}/9094") 2>/dev/null; do sleep 0.5; done

credentials=$(mktemp)
for user in order-svc payment-svc inventory-svc notification-svc gateway-svc migrate audit; do
	# In a file: an argument shows in the list of processes.
	printf 'SCRAM-SHA-512=password=%s\n' "$(cat "/run/secrets/kafka_$user")" >"$credentials"
	"$bin/kafka-configs.sh" "${server[@]}" --alter --add-config-file "$credentials" --entity-type users --entity-name "$user"
done
rm -f "$credentials"

KAFKA_ACLS=${KAFKA_ACLS:-$bin/kafka-acls.sh} sh /acls.sh "${server[@]}"
echo "users and rights are set"
