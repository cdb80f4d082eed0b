# Everything this project does from the command line. `make` lists it.

SERVICES := order-svc payment-svc inventory-svc notification-svc gateway-svc

.DEFAULT_GOAL := help
.PHONY: help build demo smoke smoke-kafka test test-race prove search controls crash crash-full answers access outage cluster chaos chaos-long page-test \
	bench bench-quick bench-saga lint generate verify clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A first build takes minutes, and Go says nothing while it compiles.
TICK := ( while sleep 4; do echo "  still at it, $$SECONDS s …"; done ) & tick=$$!; trap 'kill $$tick' EXIT;

build: SHELL := bash
build: ## build all binaries into bin/; Go stamps them with the commit
	@mkdir -p bin
	@echo 'go build: cmd/pavane $(SERVICES)'
	@$(TICK) go build -trimpath -o bin/ ./cmd/pavane $(addprefix ./,$(SERVICES))

demo: build ## run the whole demo on this machine until Ctrl-C; UP="--no-open --port 9000" for flags
	bin/pavane up $(UP)

smoke: build ## run every path of the saga once, audit, and exit with the verdict; UP="--kafka host:port" for a real Kafka
	bin/pavane up --smoke $(UP)

# What speaks to a broker runs on a real Kafka, too, where Java and Maven are
# present. CI demands it.
KAFKA_SUITES := ./shared/broker/... ./shared/brokertest ./shared/relay ./shared/react ./shared/story ./shared/sagatest ./shared/service ./gateway-svc/... ./order-svc ./internal/kitdoc ./e2e
STACK := go run ./internal/teststack
KAFKA := $(if $(CI),-kafka,-kafka-optional)

test: ## run all tests, then those with a broker on a real Kafka if Java and Maven are here; TEST=./shared/... for some
	$(STACK) -- go test $(or $(TEST),./...)
	$(if $(TEST),,$(STACK) $(KAFKA) -- go test -p 1 $(KAFKA_SUITES))

test-race: ## run the tests under the race detector, those of whole processes aside
	$(STACK) -- go test -race $(or $(TEST),$$(go list ./... | grep -v /e2e))

smoke-kafka: build ## run make smoke on a real Kafka; needs Java and Maven
	$(STACK) -kafka -- sh -c 'bin/pavane up --smoke --kafka "$$PAVANE_KAFKA" --postgres "$$PAVANE_POSTGRES" $(UP)'

# The proofs run on a real Kafka and a real Postgres, and need Java and Maven.
# docs/guarantees.md says what each of them shows.
PROOF := go test -count=1 -v
BIN := PAVANE_BIN=$(CURDIR)/bin

prove: search controls crash answers outage ## run all proofs, one after the other; about 30 minutes

search: ## go through every interleaving of the saga and print the number of states
	$(PROOF) -run 'TestSaga|EachRow' ./proof/search

controls: ## break rules on purpose and fail when a breakage goes unnoticed; CONTROLS="-only no-inbox -v" for flags
	$(STACK) -- go run ./proof/controls $(CONTROLS)

crash: build ## kill -9 the services at every failpoint, at least 300 times, and print the matrix
	$(BIN) PAVANE_CRASH=ci $(STACK) -kafka -- $(PROOF) -timeout 30m -run TestCrash ./e2e

crash-full: build ## the same at every point, hit and path of the saga; hours
	$(BIN) PAVANE_CRASH=full $(STACK) -kafka -- $(PROOF) -timeout 12h -run TestCrash ./e2e

answers: build ## lose the answers to 600 requests to Kafka and Postgres
	$(BIN) PAVANE_PROOF=ci $(STACK) -kafka -- $(PROOF) -timeout 30m ./proof/answers

access: build ## try every principal on every topic of a secured Kafka, and run the saga there
	$(BIN) PAVANE_PROOF=ci $(PROOF) -timeout 15m ./proof/access

outage: build ## crash Kafka and Postgres under load, and cut records off the log
	$(BIN) PAVANE_PROOF=ci $(PROOF) -timeout 30m ./proof/outage

cluster: build ## move the leaders of three Kafka brokers about under load
	$(BIN) PAVANE_PROOF=cluster $(PROOF) -timeout 30m -run TestCluster ./proof/outage

CHAOS_FOR := 5m

chaos: build ## break the whole system for CHAOS_FOR under load on a real Kafka, and judge; CHAOS="--seed 7 --html FILE" for flags
	bin/pavane chaos --real-kafka --for $(CHAOS_FOR) $(CHAOS)

chaos-long: build ## the same for hours: rounds of ten minutes on fresh stacks, so that disk and memory stay those of one; CHAOS_ROUNDS=24
	bin/pavane chaos --real-kafka --for 10m --rounds $(or $(CHAOS_ROUNDS),24) $(CHAOS)

page-test: build ## use the page of a demo in a real Chromium; PAVANE_SHOTS=dir keeps screenshots
	$(BIN) $(PROOF) -timeout 6m ./proof/page

bench: build ## measure relay, outbox and inbox beside the textbook and the machine's limits, 5 minutes; BENCH="--only drain --json" for flags
	go run ./bench $(BENCH)

bench-quick: build ## the same, briefly, in about a minute
	go run ./bench --quick $(BENCH)

bench-saga: build ## measure from POST to confirmed at 50 orders/s; BENCH="--real-kafka --rate 100 --json" for flags
	bin/pavane bench saga $(BENCH)

TOOL := go tool -modfile=tools/go.mod

lint: ## format, vet, static checks, dead code, tidy modules
	@unformatted=$$($(TOOL) gofumpt -l .); test -z "$$unformatted" || { echo "not formatted by gofumpt: $$unformatted"; exit 1; }
	go vet ./...
	$(TOOL) staticcheck ./...
	@dead=$$($(TOOL) deadcode -test ./...); test -z "$$dead" || { echo "$$dead"; exit 1; }
	go mod tidy -diff

generate: ## bring the generated parts of the documents up to date with the code
	go generate ./...

verify: build ## fail when the generated parts of the documents do not say what code and binaries do
	go run ./internal/catalog/generate -root . -check -bin bin

clean: ## remove what build made; the demo's data stays
	rm -rf bin
