#!/usr/bin/env bash
# Builds the images, brings the stack of compose.yaml up under a name and ports
# of its own, and tries it: every path of the saga, the audit, what each container
# may do, memory, a second start on the same data. That one is with
# compose.chaos.yaml, and everything is broken there. It leaves nothing behind.
#
#   STANDINS=../shared/standins   where images of the public names can be made
#                                 that cannot be pulled here; without that folder
#                                 they are pulled
#   BUILT=local                   tag of images to try that are built already
#   KEEP=1                        leave the stack running when a check fails
#   UP_LIMIT=60                   seconds that `up --wait` may take with images built
#   SECURE=1                      with compose.secure.yaml in place of compose.chaos.yaml
#   SECURE=both                   without it, then with it, on images built once
set -euo pipefail
cd "$(dirname "$0")/.."
STANDINS=${STANDINS:-../shared/standins}
UP_LIMIT=${UP_LIMIT:-60}
IMAGE_LIMIT=$((30 * 1000 * 1000))
MEMORY_LIMIT=1200 # MB of all containers
# The faults that no script below causes.
REST=kill,restart,pause,down,second,roll,postgres,postgres-kill,postgres-slow,clock,provider,provider-kill,partition,latency,answers,duplicates,replay,reorder,poison
pavane=${PAVANE_BIN:-bin}/pavane
SERVICES="order-svc payment-svc inventory-svc notification-svc gateway-svc"

say() { printf '%4ds  %s\n' $SECONDS "$*"; }
fail() { say "FAILED: $*"; exit 1; }

# is_free PORT, and a free one; none is taken twice.
is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
last_port=$((20000 + RANDOM % 10000))
free_port() { # VARIABLE
	until last_port=$((last_port + 1)) && is_free $last_port; do :; done
	export "$1=$last_port"
}

# The stand-in's kafka-acls.sh calls a class that Kafka 4.1 does not have.
mend_standin() {
	local dir=$SECRETS_DIR/standin
	mkdir "$dir"
	printf '#!/bin/sh\nexec java -Xmx128m -cp "/opt/kafka/libs/*" org.apache.kafka.tools.AclCommand "$@"\n' >"$dir/kafka-acls.sh"
	chmod 755 "$dir/kafka-acls.sh"
	printf 'services: {kafka-principals: {volumes: ["%s:/opt/kafka/bin/kafka-acls.sh:ro"]}}\n' "$dir/kafka-acls.sh" >"$dir/compose.yaml"
	files="$files -f $dir/compose.yaml"
}

prepare() {
	docker_compose="docker compose"
	if [ -x "$STANDINS/build" ]; then
		say "stand-in images"
		"$STANDINS/build"
		"$STANDINS/compose" version >/dev/null
		docker_compose=$(cd "$STANDINS" && pwd)/compose
		# No BuildKit there, which would build what the images share once; one after
		# the other they take it from the cache.
		export DOCKER_BUILDKIT=0 COMPOSE_PARALLEL_LIMIT=1
	fi
	project=pavane-test-$$
	export TAG=${BUILT:-test-$$} VERSION=${VERSION:-v0.0.0-test} SECRETS_DIR
	SECRETS_DIR=$(mktemp -d)
	files="-f compose.yaml"
	if [ -n "${SECURE:-}" ]; then
		files="-f compose.yaml -f compose.secure.yaml"
		[ ! -x "$STANDINS/build" ] || mend_standin
	fi
	dir=$SECRETS_DIR/host
	[ -z "${SECURE:-}" ] || dir=$SECRETS_DIR/tls/host
	for v in GATEWAY_PORT POSTGRES_PORT KAFKA_PORT PROVIDER_PORT MAIL_PORT CHAOS_PORT; do free_port $v; done
	log=$SECRETS_DIR/compose.log
	trap clean EXIT
	if [ -n "${SECURE:-}" ]; then deploy/secure.sh; else deploy/secrets.sh; fi
}

clean() {
	status=$?
	trap - EXIT INT TERM
	if [ $status != 0 ] && [ -s "$log" ]; then tail -n 30 "$log"; fi
	if [ $status != 0 ]; then
		compose ps -a --format '{{.Name}} {{.Status}}' || true
		compose logs --no-color --tail 5 || true
		[ -z "${KEEP:-}" ] || { say "left running: $docker_compose $files -p $project, secrets in $SECRETS_DIR"; exit $status; }
	fi
	compose --profile '*' down -v --remove-orphans >/dev/null 2>&1 || true
	[ -n "${BUILT:-}" ] || for s in $SERVICES pavane postgres-clock; do docker image rm "${IMAGE_PREFIX:-pavane}/$s:$TAG" >/dev/null 2>&1 || true; done
	rm -rf "$SECRETS_DIR"
	say "$([ $status = 0 ] && echo ok || echo "exit status $status")"
	exit $status
}

compose() { $docker_compose $files -p $project "$@"; }
tool() { compose run --rm -T tool "$@"; }
quietly() { "$@" >"$log" 2>&1; }
ids() { compose ps -q "$@"; }

bring_up() {
	local begin=$SECONDS
	quietly compose up --wait || fail "up --wait: exit status $?"
	say "$1: up after $((SECONDS - begin)) s"
	[ $((SECONDS - begin)) -le "$UP_LIMIT" ] || fail "more than $UP_LIMIT s"
}

check_images() {
	local size
	for s in $SERVICES pavane; do
		image=${IMAGE_PREFIX:-pavane}/$s:$TAG
		size=$(docker image inspect -f '{{.Size}}' "$image")
		[ "$size" -le $IMAGE_LIMIT ] || fail "$image has $size bytes"
		! docker run --rm --entrypoint /bin/sh "$image" -c true 2>/dev/null || fail "$image has a shell"
	done
	[[ $(docker run --rm "${IMAGE_PREFIX:-pavane}/pavane:$TAG" --version) == *$VERSION* ]] || fail "pavane --version does not say $VERSION"
	compose logs --no-color order-svc | grep -c "\"build\":\"$VERSION\"" >/dev/null || fail "order-svc does not say that it is $VERSION"
	say "images: each within 30 MB, without a shell, stamped $VERSION"
}

# What each container of ours may do, as Docker says.
check_rights() {
	local want='65532:65532 true [ALL] [no-new-privileges:true]' got
	for s in $SERVICES provider; do
		got=$(docker inspect -f '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}' $(ids $s))
		[ "$got" = "$want" ] || fail "$s: $got, want $want"
		got=$(awk '/^(Uid|CapEff|NoNewPrivs):/ {printf "%s%s ", $1, $2}' "/proc/$(docker inspect -f '{{.State.Pid}}' $(ids $s))/status" 2>/dev/null || true)
		[ -z "$got" ] || [ "$got" = "Uid:65532 CapEff:0000000000000000 NoNewPrivs:1 " ] || fail "$s: the process has $got"
	done
	check_ports
	say "rights: no root, no capability, nothing to write to, published on the loopback only"
}

# Where each container is published, and how it has fared.
check_ports() {
	local name memory restarts out addresses
	while read -r name memory restarts out addresses; do
		addresses=${addresses// /}
		[ -z "${addresses//127.0.0.1/}" ] || fail "$name is published on $addresses"
		[[ "$memory $restarts $out" =~ ^[1-9][0-9]*\ 0\ false$ ]] || fail "$name: memory limit, restarts, out of memory: $memory $restarts $out"
	done < <(docker inspect -f '{{.Name}} {{.HostConfig.Memory}} {{.RestartCount}} {{.State.OOMKilled}}{{range .HostConfig.PortBindings}}{{range .}} {{.HostIp}}{{end}}{{end}}' $(ids))
}

# No secret in a log, nor in what Docker knows of the containers.
check_secrets() {
	local seen f
	seen=$(compose logs --no-color; docker inspect $(compose ps -aq))
	for f in "$SECRETS_DIR"/* "$SECRETS_DIR"/tls/kafka_*-svc "$SECRETS_DIR"/tls/kafka_migrate "$SECRETS_DIR"/tls/kafka_audit; do
		[ -f "$f" ] && [[ $f != *.log && $f != *state && $f != *_url ]] || continue # they hold the passwords of the others
		secret=$(cat "$f")
		! grep -qF -- "$secret" <<<"$seen" || fail "the secret in ${f##*/} shows in a log or in docker inspect"
	done
	say "secrets: none in a log or in docker inspect"
}

check_memory() {
	local used
	used=$(docker stats --no-stream --format '{{.MemUsage}}' $(ids) | awk '{v = $1 + 0; if ($1 ~ /GiB/) v *= 1024; if ($1 ~ /KiB/) v /= 1024; sum += v} END {printf "%d", sum}')
	say "memory: $used MiB in all, at most $MEMORY_LIMIT"
	[ "$used" -gt 0 ] && [ "$used" -le $MEMORY_LIMIT ] || fail "$used MiB"
}

# A process killed as the kernel would: the restart policy brings it back.
check_restart() {
	local c pid
	c=$(ids order-svc)
	pid=$(docker inspect -f '{{.State.Pid}}' "$c")
	kill -9 "$pid" 2>/dev/null || { [ -z "${CI:-}" ] || fail "kill -9 of a container's process is not allowed here"; say "kill -9 of a container's process: not allowed here"; return; }
	until [ "$(docker inspect -f '{{.State.Health.Status}} {{.RestartCount}}' "$c")" = "healthy 1" ]; do
		[ $SECONDS -lt $((began + 30)) ] || fail "order-svc is not healthy 30 s after kill -9"
		sleep 0.2
	done
	say "kill -9 of order-svc: healthy again by itself"
}

clean_audit() { # COMMAND…
	local out
	out=$("$@" 2>&1) || { echo "$out"; fail "audit"; }
	grep -q 'audit: clean: [1-9]' <<<"$out" || { echo "$out"; fail "audit"; }
	grep 'audit: clean' <<<"$out"
}

# outside COMMAND…: the tool on this machine, through the published ports.
outside() {
	export PAVANE_DIR=$dir
	if [ -n "${SECURE:-}" ]; then
		export PAVANE_KAFKA_TLS=true PAVANE_KAFKA_CA_FILE=$SECRETS_DIR/tls/ca.pem PAVANE_KAFKA_MECHANISM=SCRAM-SHA-512 \
			PAVANE_KAFKA_USER=audit PAVANE_KAFKA_PASSWORD_FILE=$SECRETS_DIR/tls/kafka_audit
	fi
	"$@"
}

# The role that a service runs as neither owns nor changes what must not change.
check_role() {
	local statement
	sql() { compose exec -T postgres psql -qXAt -v ON_ERROR_STOP=1 -U postgres -d "$1" -c "set role $1" -c "$2"; }
	[ "$(sql orders "select count(*) >= 0 from outbox")" = t ] || fail "role orders cannot read its outbox"
	for statement in "create table mine ()" "drop table outbox cascade" "delete from outbox" "update outbox set payload = ''" "truncate outbox" "create role friend"; do
		! sql orders "$statement" >/dev/null 2>&1 || fail "role orders may: $statement"
	done
	for statement in payments inventory notifications; do
		! compose exec -T postgres psql -qX -U orders -d "$statement" -c "select 1" >/dev/null 2>&1 || fail "role orders may connect to $statement"
	done
	say "roles: orders reads its outbox, and neither changes what is in it, nor makes or drops tables, nor connects elsewhere"
}

# With TLS: nothing gets in without it, nor into a topic that is not its own.
check_secure() {
	! compose exec -T postgres psql -qX "postgres://postgres:$(cat "$SECRETS_DIR/postgres_password")@127.0.0.1/postgres?sslmode=disable" -c "select 1" >/dev/null 2>&1 ||
		fail "Postgres takes a connection without TLS"
	compose exec -T postgres psql -qX "postgres://postgres:$(cat "$SECRETS_DIR/postgres_password")@127.0.0.1/postgres?sslmode=verify-full&sslrootcert=/run/secrets/ca" -c "select 1" >/dev/null ||
		fail "Postgres does not take a connection with TLS"
	! PAVANE_DIR=$dir "$pavane" audit >/dev/null 2>&1 || fail "Kafka takes a connection without TLS and user"
	say "secure: Postgres and Kafka refuse who comes without TLS or user"
}

# crash SERVICE: kill -9 under orders, and a start. It waits until all works again:
# the tool waits for an order shorter than Kafka may need to have its logs open.
crash() {
	local orders c began=$SECONDS
	say "kill $1, under orders"
	c=$(ids "$1")
	outside "$pavane" order --rate 5 --for 6s &
	orders=$!
	{ docker kill "$c" && docker wait "$c" && docker start "$c"; } >/dev/null
	wait $orders || fail "kill $1"
	until grep -q 'confirmed after' <<<"$(outside "$pavane" order --customer cust-05 2>&1)"; do
		[ $SECONDS -lt $((began + 120)) ] || fail "no order is confirmed 120 s after kill $1"
	done
}

# The socket of Docker is in the one container that breaks the others.
check_socket() {
	local holders
	holders=$(docker inspect -f '{{.Name}}{{range .Mounts}} {{.Destination}}{{end}}' $(ids) | awk '/docker\.sock/ {print $1}')
	[ "$holders" = "/$project-chaos-1" ] || fail "the socket of Docker is in: $holders"
	say "the socket of Docker is in the container chaos alone"
}

# break_status [HEADER]: what the gateway says to the page's first question.
break_status() { curl -s -o /dev/null -w '%{http_code}' ${1:+-H "$1"} "http://127.0.0.1:$GATEWAY_PORT/v1/break/faults"; }

# "Break it" as the page does it: for the operator only.
check_page() {
	local operator before after
	operator="X-Pavane-Operator: $(cat "$SECRETS_DIR/operator_token")"
	[ "$(break_status) $(break_status "$operator")" = "403 200" ] || fail "who may break things: without and with the token $(break_status), $(break_status "$operator")"
	before=$(docker inspect -f '{{.State.StartedAt}}' $(ids order-svc))
	curl -sSf -X POST -H "$operator" -d '{"kind":"kill","service":"order-svc","detached":true}' "http://127.0.0.1:$GATEWAY_PORT/v1/break/faults"
	after=$(docker inspect -f '{{.State.StartedAt}}' $(ids order-svc))
	[ "$before" != "$after" ] || fail "order-svc was not killed from the page"
	say "the page: its operator has killed order-svc, and nobody else may"
}

# Every way to break it: each effect by itself, some scripts, and a schedule.
break_all() {
	say "each effect on containers"
	PAVANE_COMPOSE=$project PAVANE_DIR=$dir go test -count=1 ./cmd/pavane/internal/compose || fail "an effect on containers"
	quietly compose up --wait --no-recreate
	for script in broker-down.sh broker-kill.sh provider-wrong.sh; do
		say "chaos/$script"
		PAVANE_DIR=$dir PAVANE=$pavane FOR=2s chaos/$script || fail "chaos/$script"
	done
	# A Kafka takes too long to come back for others to find their moment within a
	# minute. Under this seed there is each of the others.
	say "a schedule of all the other faults"
	PAVANE_DIR=$dir "$pavane" chaos --running --seed 127 --for 60s --every 3s --faults "$REST" || fail "chaos"
}

# build makes all images that the test needs.
build() {
	say "build"
	quietly compose build
	[ -n "${SECURE:-}" ] || quietly $docker_compose -f compose.yaml -f compose.chaos.yaml -p $project build postgres
	say "built"
}

both() {
	SECURE=
	prepare
	build
	BUILT=$TAG "$0"
	BUILT=$TAG SECURE=1 UP_LIMIT=150 "$0"
}

main() {
	prepare
	[ -n "${BUILT:-}" ] || build
	quietly compose --profile '*' config
	bring_up "new volumes"
	check_images
	check_rights
	check_role
	[ -z "${SECURE:-}" ] || check_secure

	say "the page"
	curl -sSf "http://127.0.0.1:$GATEWAY_PORT/" | grep -ci '<!doctype html' >/dev/null || fail "no page"
	[ "$(break_status)" = 404 ] || fail "there is a route to break things: $(break_status)"
	tool smoke || fail "a path of the saga"
	say "the doctor"
	began=$SECONDS
	until tool doctor; do
		[ $SECONDS -lt $((began + 60)) ] || fail "the doctor finds something"
	done
	began=$SECONDS
	check_restart
	[ -z "${SECURE:-}" ] || for server in payment-svc gateway-svc kafka postgres; do crash $server; done
	say "audit, from inside and from this machine"
	clean_audit tool audit --settle 60s
	outside clean_audit "$pavane" audit --settle 60s
	check_memory
	check_secrets

	quietly compose down
	if [ -n "${SECURE:-}" ]; then
		bring_up "the same volumes"
		clean_audit tool audit
		return
	fi
	files="-f compose.yaml -f compose.chaos.yaml"
	export ORDER_DEADLINE=12s # longer than most faults
	bring_up "the same volumes, with compose.chaos.yaml"
	check_ports
	check_socket
	check_page
	break_all
	check_memory
	check_secrets
}

if [ "${SECURE:-}" = both ]; then both; else main; fi
