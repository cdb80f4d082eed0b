# Everything this project does from the command line. `make` lists it.

SERVICES := order-svc payment-svc inventory-svc notification-svc gateway-svc

.DEFAULT_GOAL := help
.PHONY: help build demo smoke test test-race lint generate clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build all binaries into bin/; Go stamps them with the commit
	@mkdir -p bin
	go build -trimpath -o bin/ ./cmd/pavane $(addprefix ./,$(SERVICES))

demo: build ## run the whole demo on this machine until Ctrl-C; UP="--no-open --port 9000" for flags
	bin/pavane up $(UP)

smoke: build ## run every path of the saga once, audit, and exit with the verdict; UP="--kafka host:port" for a real Kafka
	bin/pavane up --smoke $(UP)

test: ## run all tests on one throw-away Postgres; TEST=./shared/... for some
	go run ./internal/teststack -- go test $(or $(TEST),./...)

test-race: ## the same under the race detector
	go run ./internal/teststack -- go test -race $(or $(TEST),./...)

lint: ## vet, and fail on files that gofmt would change
	go vet ./...
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }

generate: ## bring the generated documents up to date with the tables of reactions
	go generate ./...

clean: ## remove what build made; the demo's data stays
	rm -rf bin
