# Everything this project does from the command line. `make` lists it.

SERVICES := order-svc payment-svc inventory-svc notification-svc gateway-svc

.DEFAULT_GOAL := help
# Each target that help lists is a command, not a file.
.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*## .*/\1/p' $(MAKEFILE_LIST))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A first build takes minutes, and Go says nothing while it compiles.
TICK := ( while sleep 4; do echo "  still at it, $$SECONDS s …"; done ) & tick=$$!; trap 'kill $$tick' EXIT;

build: SHELL := bash
build: ## build all binaries into bin/; Go stamps them with the commit
	@mkdir -p bin
	@echo 'go build: cmd/pavane $(SERVICES)'
	@$(TICK) go build -trimpath -o bin/ ./cmd/pavane $(addprefix ./,$(SERVICES))

demo: build ## run the whole demo on this machine until Ctrl-C; UP="--no-open --port 9000" for flags
	bin/pavane up $(UP)

doctor: build ## say what this machine lacks for the demo, and what a running one suffers from
	bin/pavane doctor $(DOCTOR)

smoke: build ## run every path of the saga once, audit, and exit with the verdict; UP="--kafka host:port" for a real Kafka
	bin/pavane up --smoke $(UP)

# What speaks to a broker runs on a real Kafka, too, where Java and Maven are
# present. CI demands it.
KAFKA_SUITES := ./shared/broker/... ./shared/brokertest ./shared/relay ./shared/react ./shared/story ./shared/sagatest ./shared/service ./gateway-svc/... ./order-svc ./internal/kitdoc ./e2e
STACK := go run ./internal/teststack
# The limit is there for what hangs. How long tests take is the machine's affair.
TESTS := go test -timeout 1h
KAFKA := $(if $(CI),-kafka,-kafka-optional)

test: ## run all tests, then those with a broker on a real Kafka if Java and Maven are here; TEST=./shared/... for some
	$(STACK) -- $(TESTS) $(or $(TEST),./...)
	$(if $(TEST),,$(STACK) $(KAFKA) -- $(TESTS) -p 1 $(KAFKA_SUITES))

# Those that README names. The machine's own Postgres is in make test, 18 also in the stack in containers.
POSTGRES_VERSIONS := 14.19.0 15.14.0 16.10.0 17.6.0 18.0.0
KAFKA_VERSIONS := 3.7.2 3.8.1 3.9.1 4.0.0

test-versions: ## run the tests of kit and services on each Postgres and Kafka they are for; POSTGRES_VERSIONS= KAFKA_VERSIONS=3.9.1 for some
	for v in $(POSTGRES_VERSIONS); do $(STACK) -postgres $$v -- $(TESTS) ./shared/... ./migrations/... $(SERVICES:%=./%/...) || exit; done
	for v in $(KAFKA_VERSIONS); do $(STACK) -kafka-version $$v -- $(TESTS) -p 1 $(KAFKA_SUITES) || exit; done

# What runs other processes, reads the source or computes in one goroutine has nothing
# for the race detector to see.
NO_RACE := pavane/(e2e|chaos|deploy/k8s|proof/search|internal/(catalog|kitdoc|tidy))

# Most servers order text by a language; the other tests' order it by its bytes.
test-race: ## run the tests under the race detector, those without goroutines of their own aside
	$(STACK) -collation en-US -- $(TESTS) -race $(or $(TEST),$$(go list ./... | grep -vxE '$(NO_RACE)'))

smoke-kafka: build ## run make smoke on a real Kafka; needs Java and Maven
	$(STACK) -kafka -- sh -c 'bin/pavane up --smoke --kafka "$$PAVANE_KAFKA" --postgres "$$PAVANE_POSTGRES" $(UP)'

# The proofs need Java and Maven, but for search and controls.
# docs/guarantees.md says what each of them shows.
PROOF := $(TESTS) -count=1 -v
BIN := PAVANE_BIN=$(CURDIR)/bin

prove: search controls crash answers outage ## run these five proofs, one after the other; about 30 minutes

search: ## go through every interleaving of the saga and print the number of states
	$(PROOF) -run 'TestSaga|EachRow' ./proof/search

controls: ## break rules on purpose and fail when a breakage goes unnoticed; CONTROLS="-only no-inbox -v" for flags
	$(STACK) -- go run ./proof/controls $(CONTROLS)

crash: build ## kill -9 the services at every failpoint, at least 300 times, and print the matrix
	$(BIN) PAVANE_CRASH=ci $(STACK) -kafka -- $(PROOF) -run TestCrash ./e2e

crash-full: build ## the same at every point, hit and path of the saga; hours
	$(BIN) PAVANE_CRASH=full $(STACK) -kafka -- $(PROOF) -timeout 12h -run TestCrash ./e2e

answers: build ## lose the answers to 600 requests to Kafka and Postgres
	$(BIN) PAVANE_PROOF=ci $(STACK) -kafka -- $(PROOF) ./proof/answers

access: build ## try every principal on every topic of a secured Kafka, and run the saga there
	$(BIN) PAVANE_PROOF=ci $(PROOF) ./proof/access

outage: build ## crash Kafka and Postgres under load, and cut records off the log
	$(BIN) PAVANE_PROOF=ci $(PROOF) ./proof/outage

cluster: build ## move the leaders of three Kafka brokers about under load
	$(BIN) PAVANE_PROOF=cluster $(PROOF) -run TestCluster ./proof/outage

CHAOS_FOR := 5m

chaos: build ## break the whole system for CHAOS_FOR under load on a real Kafka, and judge; CHAOS="--seed 7 --html FILE" for flags
	bin/pavane chaos --real-kafka --for $(CHAOS_FOR) $(CHAOS)

chaos-long: build ## the same for hours: rounds of ten minutes on fresh stacks, so that disk and memory stay those of one; CHAOS_ROUNDS=24
	bin/pavane chaos --real-kafka --for 10m --rounds $(or $(CHAOS_ROUNDS),24) $(CHAOS)

page-test: build ## use the page of a demo in a real Chromium; PAVANE_SHOTS=dir keeps screenshots
	$(BIN) $(PROOF) ./proof/page

compose-test: build ## bring the stack of compose.yaml up, try it, break it with compose.chaos.yaml and take it down, 7 minutes; STANDINS=dir with images that cannot be pulled
	PAVANE_BIN=$(CURDIR)/bin deploy/compose-test.sh

compose-test-secure: build ## the same with TLS, users and rights
	PAVANE_BIN=$(CURDIR)/bin SECURE=1 UP_LIMIT=150 deploy/compose-test.sh

compose-test-both: build ## both, on images built once
	PAVANE_BIN=$(CURDIR)/bin SECURE=both deploy/compose-test.sh

# Prometheus and promtool of the PATH, or of the folder PAVANE_PROMETHEUS.
PROMTOOL := $(if $(PAVANE_PROMETHEUS),$(PAVANE_PROMETHEUS)/)promtool

rules: ## check the alert rules and Prometheus' configuration, and run the rules' unit tests; needs promtool
	$(PROMTOOL) check config deploy/observability/prometheus.yml
	$(PROMTOOL) test rules deploy/observability/rules/tests.yml

alerts: build ## have each alert fire and clear in a demo that a real Prometheus reads; needs prometheus, Java and Maven; about 4 minutes
	$(BIN) PAVANE_ALERTS=1 $(STACK) -- $(PROOF) -run TestAlerts ./e2e

bench: build ## measure relay, outbox and inbox beside the textbook and the machine's limits, about 8 minutes; BENCH="--only drain --json" for flags
	go run ./bench $(BENCH)

bench-quick: build ## the same, briefly, in a minute, and without speed goals
	go run ./bench --quick $(BENCH)

bench-saga: build ## measure from POST to confirmed at 50 orders/s; BENCH="--real-kafka --rate 100 --json" for flags
	bin/pavane bench saga $(BENCH)

# Tools written in Python live in environments of their own, under .venv. Their
# versions, and those of all they need, are in tools/.
VENV = .venv/$(1)/ready

.venv/%/ready: tools/%.txt
	rm -rf .venv/$*
	python3 -m venv .venv/$*
	.venv/$*/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	touch $@

schemathesis: build $(call VENV,schemathesis) ## hold REQUESTS=20000 generated requests to a demo's gateway against its OpenAPI document
	$(BIN) PAVANE_SCHEMATHESIS=$(CURDIR)/.venv/schemathesis/bin/schemathesis PAVANE_REQUESTS=$(or $(REQUESTS),20000) PAVANE_REQUESTS_SEED=$(or $(SEED),6) \
		$(PROOF) -timeout 3h ./proof/api

# What gosec may pass over, by path: the wire format is made of the bits of signed
# numbers; whoever scripts failpoints owns the files; what starts the demo, the
# servers of tests and the proofs runs programs, reads and writes files and deals
# out faults by a seed, all on the machine of the one who calls it. An error that
# is left out everywhere (G104) says why in a nolint comment. Other places carry
# a #nosec with their reason.
GOSEC_PASS := shared/broker/.*:G115;shared/failpoint/.*:G302,G306,G703;shared/(brokertest|pgtest)/.*:G115,G204,G304
GOSEC_PASS := $(GOSEC_PASS);(bench|proof|internal)/.*:G115,G122,G204,G301,G302,G304,G306,G404,G701,G702;cmd/pavane/.*:G101,G115,G204,G301,G302,G304,G404

.venv/gosec: tools/gosec.mod
	@mkdir -p .venv
	go build -modfile=$< -o $@ github.com/securego/gosec/v2/cmd/gosec

gosec: .venv/gosec ## look for insecure code
	$< -quiet -exclude-generated -exclude-dir '[.]venv' -nosec-require-rules -nosec-require-justification -exclude G104 -exclude-rules '$(GOSEC_PASS)' ./...

# What a test plants must be found by the very tools that look at the project.
TOOLS := $(PROOF) ./proof/tools -run

.venv/gitleaks: tools/gitleaks.mod
	mkdir -p .venv
	go build -modfile=$< -o $@ github.com/zricethezav/gitleaks/v8

secrets: .venv/gitleaks ## look for secrets in the working tree and in the whole history
	$< dir --no-banner --redact --verbose .
	$< git --no-banner --redact --verbose .
	PAVANE_TOOLS=secrets PAVANE_GITLEAKS=$(CURDIR)/$< $(TOOLS) TestSecrets

IAC = .venv/checkov/bin

iac-lint: $(call VENV,checkov) ## check each Dockerfile, and whatever holds a secret
	@for file in $(wildcard deploy/Dockerfile deploy/*/Dockerfile); do $(IAC)/hadolint --config tools/hadolint.yaml $$file || exit 1; done
	$(IAC)/checkov --config-file tools/checkov.yaml --directory .
	PAVANE_TOOLS=iac-lint PAVANE_IAC=$(CURDIR)/$(IAC) $(TOOLS) TestIaC

k8s-test: $(call VENV,checkov) ## hold deploy/k8s to the schemas of Kubernetes and to checkov; needs Python 3
	deploy/k8s/check.sh
	go test ./deploy/k8s

sbom: build ## write what each binary is made of into sbom/, as CycloneDX
	@mkdir -p sbom .venv
	go build -modfile=tools/cyclonedx.mod -o .venv/cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
	@for binary in pavane $(SERVICES); do \
		.venv/cyclonedx-gomod bin -json -licenses -version "v0.0.0-$$(git rev-parse --short=12 HEAD)" -output sbom/$$binary.cdx.json bin/$$binary 2>/dev/null || exit 1; \
	done
	PAVANE_TOOLS=sbom $(TOOLS) TestSBOM

FUZZ_FOR := 10s

fuzz: ## give each decoder generated input for FUZZ_FOR; FUZZ=FuzzDecode for one; what it finds stays in testdata/fuzz
	@grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			case "$$name" in *$(FUZZ)*) ;; *) continue;; esac; \
			echo "$$name in $${file%/*}"; \
			go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ_FOR) -parallel 2 "$${file%/*}" </dev/null || exit 1; \
		done; \
	done

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
