#!/bin/sh
# Makes what compose.secure.yaml mounts beside the secrets of deploy/secrets.sh: an
# authority, certificates of Postgres and Kafka, a password for each user of
# Kafka, and URLs that demand TLS. What is there stays; needs openssl.
#
#   deploy/secure.sh [DIR]     DIR: SECRETS_DIR, else deploy/secrets
set -eu
cd "$(dirname "$0")/.."
[ $# -eq 0 ] || export SECRETS_DIR="$1"
deploy/secrets.sh
dir=${SECRETS_DIR:-$(sed -n 's/^SECRETS_DIR=//p' .env)}
tls=$dir/tls
mkdir -p "$tls/host"

put() {
	printf '%s\n' "$2" >"$tls/$1.new"
	chmod 444 "$tls/$1.new"
	mv -f "$tls/$1.new" "$tls/$1"
}

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

if [ ! -s "$tls/ca.pem" ]; then
	key "$tls/ca.key"
	openssl req -x509 -new -key "$tls/ca.key" -sha256 -days 3650 -subj "/CN=pavane compose" \
		-addext "basicConstraints=critical,CA:true,pathlen:0" -addext "keyUsage=critical,keyCertSign" -out "$tls/ca.pem"
fi
for server in postgres kafka; do
	[ ! -s "$tls/$server.pem" ] || continue
	key "$tls/$server.key"
	printf 'subjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' "$server" >"$tls/$server.ext"
	openssl req -new -key "$tls/$server.key" -subj "/CN=$server" |
		openssl x509 -req -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 825 -sha256 -extfile "$tls/$server.ext" -out "$tls/$server.pem" 2>/dev/null
	rm -f "$tls/$server.ext"
done
put kafka_keystore.pem "$(cat "$tls/kafka.key" "$tls/kafka.pem")"
chmod 600 "$tls/ca.key"
chmod 444 "$tls/ca.pem" "$tls/postgres.pem" "$tls/postgres.key"

for user in order-svc payment-svc inventory-svc notification-svc gateway-svc migrate audit; do
	[ -s "$tls/kafka_$user" ] || put "kafka_$user" "$(od -An -tx1 -N24 /dev/urandom | tr -d ' \n')"
done
demand() { sed "s|sslmode=disable|sslmode=verify-full\&sslrootcert=$2|" "$dir/$1"; }
for database in orders payments inventory notifications; do
	for role in "$database" "${database}_owner"; do
		put "${role}_url" "$(demand "${role}_url" /run/secrets/ca)"
	done
done
put tool_state "$(demand tool_state /run/secrets/ca)"
put host/state.json "$(demand host/state.json "$(cd "$tls" && pwd)/ca.pem")"
