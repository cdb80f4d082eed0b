#!/bin/sh
# Grants each service's principal what it needs of Kafka, and nothing else: it
# writes its own topic, whose end its relay reads to see that the database was not
# set back, reads the topics that it reacts to, and keeps its own group. The
# gateway reads. migrate creates the topics, audit reads all. Twice is
# harmless. docs/access.md has the list as a table.
#
#   acls.sh --bootstrap-server host:port --command-config admin.properties
#
# All arguments go to Kafka's own kafka-acls.sh ($KAFKA_ACLS names another one).
# $NAMESPACE is PAVANE_NAMESPACE. Principals are the names of SASL users; with
# client certificates give a rule (ssl.principal.mapping.rules) that makes the
# common name the principal.
set -eu

acls=${KAFKA_ACLS:-kafka-acls.sh}
ns=${NAMESPACE:-}
orders="${ns}orders.events.v1" payments="${ns}payments.events.v1" inventory="${ns}inventory.events.v1"

# grant "PRINCIPAL …" "OPERATION …" ARGUMENT… -- the arguments name resources
grant() {
  who= operations=
  for p in $1; do who="$who --allow-principal User:$p"; done
  for o in $2; do operations="$operations --operation $o"; done
  shift 2
  # shellcheck disable=SC2086 # these are words of their own
  "$acls" $common --add $who $operations "$@" > /dev/null
}
common="$*"

# Every service checks the shape of all topics at its start, and the tool's doctor does.
grant "order-svc payment-svc inventory-svc notification-svc gateway-svc audit" "Describe DescribeConfigs" \
  --topic "$orders" --topic "$payments" --topic "$inventory"

grant order-svc     "Write Read" --topic "$orders"
grant payment-svc   "Write Read" --topic "$payments"
grant inventory-svc "Write Read" --topic "$inventory"

grant "payment-svc inventory-svc notification-svc gateway-svc audit" Read --topic "$orders"
grant "order-svc inventory-svc notification-svc gateway-svc audit"   Read --topic "$payments"
grant "order-svc payment-svc gateway-svc audit"                      Read --topic "$inventory"

for service in order-svc payment-svc inventory-svc notification-svc; do
  grant "$service" Read --group "$ns$service"
done

grant migrate "Create Describe DescribeConfigs" --topic "$orders" --topic "$payments" --topic "$inventory"
