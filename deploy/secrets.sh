#!/bin/sh
# Makes the secrets that compose.yaml mounts, once: what is there stays as it is.
# Run it again after a change of ports in .env, or of a role's password.
#
#   deploy/secrets.sh [DIR]     DIR: SECRETS_DIR, else deploy/secrets
#
# The folder is for its owner only. The files in it can be read by all, because
# in a container they keep the owner they have here, and its process is another.
set -eu
cd "$(dirname "$0")/.."

# A variable of the environment counts more than .env, as for docker compose.
setting() {
	eval "value=\${$1:-}"
	[ -n "$value" ] || value=$(sed -n "s/^$1=//p" .env)
	printf '%s' "$value"
}

dir=${1:-$(setting SECRETS_DIR)}
mkdir -p "$dir"
chmod 700 "$dir"

# put NAME TEXT: writes the file at once, so that nobody reads half of it.
put() {
	printf '%s\n' "$2" >"$dir/$1.new"
	chmod 444 "$dir/$1.new"
	mv -f "$dir/$1.new" "$dir/$1"
}

fresh() { od -An -tx1 -N"${1:-24}" /dev/urandom | tr -d ' \n'; }

keep() { [ -s "$dir/$1" ] || put "$1" "$2"; }

sslmode="sslmode=disable"
proxy=5401 # of compose.chaos.yaml, one for each service
mkdir -p "$dir/chaos"

keep postgres_password "$(fresh)"
keep gossip_key "$(fresh 32)"
keep operator_token "$(fresh)"
keep service_key "$(fresh 32)"
keep webhook_key "whsec_$(head -c 32 /dev/urandom | base64)"
for database in orders payments inventory notifications; do
	for role in "$database" "${database}_owner"; do
		keep "$role" "$(fresh)"
		put "${role}_url" "postgres://$role:$(cat "$dir/$role")@postgres:5432/$database?$sslmode"
	done
	put "chaos/${database}_url" "postgres://$database:$(cat "$dir/$database")@chaos:$proxy/$database?$sslmode"
	proxy=$((proxy + 1))
done

# Where the tool looks: from inside (docker compose run tool) and from this
# machine (PAVANE_DIR=deploy/secrets/host bin/pavane audit).
superuser="postgres://postgres:$(cat "$dir/postgres_password")"
state() { # GATEWAY POSTGRES PROVIDER KAFKA CHAOS
	printf '{"gateway":"http://%s","postgres":"%s@%s/postgres?%s","provider":"http://%s","kafka":["%s"],"control":{"url":"http://%s","token":"%s"}}' \
		"$1" "$superuser" "$2" "$sslmode" "$3" "$4" "$5" "$(cat "$dir/operator_token")"
}
put tool_state "$(state gateway-svc:8080 postgres:5432 provider:8089 kafka:9092 chaos:7070)"
mkdir -p "$dir/host"
put host/state.json "$(state "127.0.0.1:$(setting GATEWAY_PORT)" "127.0.0.1:$(setting POSTGRES_PORT)" "127.0.0.1:$(setting PROVIDER_PORT)" "127.0.0.1:$(setting KAFKA_PORT)" "127.0.0.1:$(setting CHAOS_PORT)")"
