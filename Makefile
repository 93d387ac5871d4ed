# The two commands of the README are `make run` and `make test`.

GO ?= go
N ?= 200
RATE ?= 1000
DURATION ?= 60s
LINT = bin/golangci-lint

.DEFAULT_GOAL := help
.PHONY: help build run test unit lint drift generate bench crash mutants clean

help: ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

build: ## build bin/holdfast and bin/holdfastd
	$(GO) build -o bin/ ./cmd/holdfast ./cmd/holdfastd

run: build ## build and start everything on this machine, with its data in ./data
	bin/holdfast up

test: drift lint unit ## run every test, on SQLite and PostgreSQL, with the race detector

unit: ## run the tests alone
	$(GO) vet ./...
	$(GO) test -race -timeout 20m ./...

lint: $(LINT) ## run the linters; .golangci.yml says why each
	$(LINT) run ./...

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

mutants: ## break the product in every known way; each check must fail: make mutants AREA=svc/payment SINCE=main CLEAN=20
	$(GO) run ./test/mutants $(if $(AREA),-area $(AREA)) $(if $(SINCE),-since $(SINCE)) $(if $(CLEAN),-clean $(CLEAN))

clean: ## remove what was built; data stays
	rm -rf bin
