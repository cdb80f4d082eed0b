#!/bin/bash
# Gives each user of Kafka its password and exactly what it needs: a service
# writes to its own topic, reads it and those it reacts to, and has its own group; only
# the migration step creates topics. Twice is harmless. It talks to the listener
# that only Kafka's own network namespace reaches.
set -euo pipefail
server=(--bootstrap-server "${KAFKA_ADMIN:-localhost:9094}")
bin=/opt/kafka/bin
export KAFKA_HEAP_OPTS=-Xmx128m

until (exec 3<>"/dev/tcp/${KAFKA_ADMIN_HOST:-localhost}/9094") 2>/dev/null; do sleep 0.5; done

credentials=$(mktemp)
for user in order-svc payment-svc inventory-svc notification-svc gateway-svc migrate tool; do
	# In a file: an argument shows in the list of processes.
	printf 'SCRAM-SHA-512=password=%s\n' "$(cat "/run/secrets/kafka_$user")" >"$credentials"
	"$bin/kafka-configs.sh" "${server[@]}" --alter --add-config-file "$credentials" --entity-type users --entity-name "$user"
done
rm -f "$credentials"

allow() { "$bin/kafka-acls.sh" "${server[@]}" --add --force "$@" >/dev/null; }
orders=orders.events.v1 payments=payments.events.v1 inventory=inventory.events.v1

# What each may read, and that each finds its topics there and of the right shape.
allow --operation Describe --operation DescribeConfigs --topic $orders --topic $payments --topic $inventory \
	--allow-principal User:order-svc --allow-principal User:payment-svc --allow-principal User:inventory-svc \
	--allow-principal User:notification-svc --allow-principal User:gateway-svc --allow-principal User:tool
allow --operation Read --topic $orders --allow-principal User:payment-svc --allow-principal User:inventory-svc --allow-principal User:notification-svc --allow-principal User:gateway-svc --allow-principal User:tool
allow --operation Read --topic $payments --allow-principal User:order-svc --allow-principal User:inventory-svc --allow-principal User:notification-svc --allow-principal User:gateway-svc --allow-principal User:tool
allow --operation Read --topic $inventory --allow-principal User:order-svc --allow-principal User:payment-svc --allow-principal User:notification-svc --allow-principal User:gateway-svc --allow-principal User:tool

allow --operation Write --operation Read --topic $orders --allow-principal User:order-svc
allow --operation Write --operation Read --topic $payments --allow-principal User:payment-svc
allow --operation Write --operation Read --topic $inventory --allow-principal User:inventory-svc

for group in order-svc payment-svc inventory-svc notification-svc; do
	allow --operation Read --operation Describe --group $group --allow-principal User:$group
done
allow --operation Create --operation Describe --operation DescribeConfigs --topic $orders --topic $payments --topic $inventory --allow-principal User:migrate
echo "users and rights are set"
