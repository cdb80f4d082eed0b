# Everything this project does from the command line. `make` lists it.

SERVICES := order-svc payment-svc inventory-svc notification-svc gateway-svc

.DEFAULT_GOAL := help
.PHONY: help build demo smoke smoke-kafka bench-saga test test-race lint generate verify clean

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
