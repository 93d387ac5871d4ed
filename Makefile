# The two commands of the README are `make run` and `make test`.

GO ?= go
N ?= 200
SEEDS ?= 1000
RATE ?= 1000
DURATION ?= 60s
BOUNDARIES ?= all
LINT = bin/golangci-lint

.DEFAULT_GOAL := help
.PHONY: help build faultclock run test test-quick unit temporald temporald-test lint drift generate bench crash crashpoints mutants simulate clean

help: ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

build: ## build bin/holdfast and bin/holdfastd
	$(GO) build -o bin/ ./cmd/holdfast ./cmd/holdfastd

faultclock: ## build bin/holdfastd-faultclock, whose clock the chaos experiments set wrong
	$(GO) build -o bin/holdfastd-faultclock ./test/faultclock

run: build ## build and start everything on this machine, with its data in ./data
	bin/holdfast up

test: drift lint unit temporald-test ## run every test, on embedded and real engines, with the race detector

test-quick: ## run the tests on SQLite and the embedded bus alone
	$(GO) vet ./...
	HOLDFAST_TEST_ENGINES=embedded $(GO) test -timeout 10m ./...

unit: bin/temporald ## run the tests alone
	$(GO) vet ./...
	$(GO) test -race -timeout 20m ./...

temporald: bin/temporald ## build bin/temporald, a Temporal server; 10 minutes of processor time at first, seconds later

bin/temporald: $(wildcard engines/temporald/*.go) engines/temporald/go.mod engines/temporald/go.sum
	$(GO) -C engines/temporald build -ldflags='-s -w' -o ../../bin/temporald .

# Without the race detector, with which the server would be compiled a second time.
temporald-test: ## run the tests of temporald
	$(GO) -C engines/temporald vet ./...
	$(GO) -C engines/temporald test -timeout 10m ./...

lint: $(LINT) ## run the linters; .golangci.yml says why each; and see that workflow code can be replayed
	$(LINT) run ./...
	$(GO) -C tools build -o ../bin/workflowcheck go.temporal.io/sdk/contrib/tools/workflowcheck
	bin/workflowcheck ./svc/saga

$(LINT): tools/lint/go.mod tools/lint/go.sum
	$(GO) -C tools/lint build -o ../../$(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

drift: ## fail where generated code is not what its source says
	@mkdir -p bin
	$(GO) -C tools tool oapi-codegen -config ../client/wire/oapi-codegen.yaml -o ../bin/wire.txt ../api/openapi.yaml
	cmp bin/wire.txt client/wire/wire.go || { echo "client/wire is not what api/openapi.yaml says: run make generate" >&2; exit 1; }

generate: ## write api/openapi.yaml from the code, and the client from that
	$(GO) test ./svc/gateway -run OpenAPI -update
	$(GO) generate ./...

bench: build ## measure: make bench RATE=1000 DURATION=60s
	bin/holdfast bench --rate $(RATE) --duration $(DURATION)

crash: ## kill it at random instants: make crash N=200
	HOLDFAST_TEST_CYCLES=$(N) $(GO) test -v -count=1 -timeout 2h -run TestKillAtAnyTime ./test/crash

crashpoints: ## kill it before, in and after each of its effects: make crashpoints BOUNDARIES=^happy-path
	HOLDFAST_TEST_BOUNDARIES='$(BOUNDARIES)' $(GO) test -v -count=1 -timeout 0 -run TestCrashPoints ./test/crash/points

mutants: ## break the product in every known way; each check must fail: make mutants AREA=svc/payment SINCE=main CLEAN=20
	$(GO) run ./test/mutants $(if $(AREA),-area $(AREA)) $(if $(SINCE),-since $(SINCE)) $(if $(WITHIN),-within $(WITHIN)) $(if $(CLEAN),-clean $(CLEAN))

simulate: ## run it in virtual time, with the faults of each seed: make simulate SEEDS=10000
	HOLDFAST_TEST_SEEDS=$(SEEDS) $(GO) test -tags synctests -v -count=1 -timeout 0 -run TestSeeds ./test/simulation

clean: ## remove what was built; data stays
	rm -rf bin
