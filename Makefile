# Forebay's commands for people who work on it. `make` alone lists them.
SHELL := bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo build install test test-setup test-spark torture race lint lint-setup bench bench-short fuzz fuzz-lookup clean

export GOFLAGS ?= -buildvcs=false
CACHE    := $(CURDIR)/.cache
GOLANGCI := $(CACHE)/bin/golangci-lint
GOLANGCI_VERSION := v2.15.0
FUZZTIME ?= 60s
# Packages where goroutines meet: tested with the race detector.
RACE := ./online/... ./materialize/... ./internal/httpapi/... ./internal/app/... ./registry/history/... ./offline/parquet/... ./sdk/...

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## the whole path on real flights, nothing to install
	@CGO_ENABLED=$${CGO_ENABLED:-0} go run ./cmd/forebay demo

build: ## bin/forebay, one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/forebay ./cmd/forebay

install: ## forebay into Go's bin folder
	CGO_ENABLED=0 go install -trimpath ./cmd/forebay

test: test-setup ## set up Redis, Kafka and Python readers, then run every test against the real ones
	FOREBAY_TEST_PYTHON=$(CACHE)/venv/bin/python internal/testenv/test.sh $(RACE)

test-setup: ## only set up what the tests need
	internal/testenv/setup.sh $(CACHE)

test-spark: ## `dataset sql --dialect spark` against PySpark 3.5; fetches 400 MB
	FOREBAY_TEST_SPARK=$$(offline/joinsql/spark.sh $(CACHE)) go test -count=1 -run TestSpark -v ./offline/joinsql

torture: test-setup ## windows streamed under 20 rounds of every fault, on real Kafka and Redis; half an hour
	FOREBAY_TORTURE=$${FOREBAY_TORTURE:-20} CI=true go test -count=1 -timeout 2h -run 'TestKilledStreams|TestStreamsThatComeAndGo|TestRedisIsKilled|TestRedisFailsOver|TestNetworkStalls|TestBrokersAreKilled' -v ./internal/app

lint: lint-setup ## gofmt, go vet and golangci-lint
	@test -z "$$(gofmt -l cmd examples internal materialize offline online registry sdk)" || { gofmt -l cmd examples internal materialize offline online registry sdk; echo "run gofmt -w on these" >&2; exit 1; }
	go vet ./...
	$(GOLANGCI) run ./...

lint-setup:
	@test -x $(GOLANGCI) && $(GOLANGCI) version | grep -q '$(GOLANGCI_VERSION:v%=%)' || GOBIN=$(CACHE)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

BENCH_JSON ?= $(CACHE)/bench
bench-short: ## short runs of forebay bench; their JSON goes to BENCH_JSON
	mkdir -p $(BENCH_JSON)
	go build -o $(BENCH_JSON)/forebay ./cmd/forebay
	$(BENCH_JSON)/forebay --json bench lookup --duration 1s --format json,msgpack,arrow --shapes 1x50,100x50 --entities 2000 > $(BENCH_JSON)/lookup.json
	$(BENCH_JSON)/forebay --json bench lookup --duration 1s --shapes 100x50 --entities 2000 --embedded > $(BENCH_JSON)/lookup-embedded.json
	$(BENCH_JSON)/forebay --json bench materialize --duration 1s --entities 20000 > $(BENCH_JSON)/materialize.json
	$(BENCH_JSON)/forebay --json bench pit --rows 200000 --spine 20000 > $(BENCH_JSON)/pit.json
	$(BENCH_JSON)/forebay --json bench stream --events 50000 --duration 1s --embedded > $(BENCH_JSON)/stream.json
	rm $(BENCH_JSON)/forebay

bench: ## Go benchmarks; figures on this machine
	go test -run '^$$' -bench . -benchmem ./...

fuzz: ## every fuzz test for FUZZTIME each (default 60s)
	@for pkg in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -hoE '^func (Fuzz[A-Za-z0-9_]+)' $$pkg/*_test.go | awk '{print $$2}'); do \
	    echo "fuzz $$pkg $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

# By number and not by time, whose end can fail a run before Go 1.27 (golang/go#75804).
fuzz-lookup: ## the parsers of lookups, about a minute in all, as CI does
	go test -run '^$$' -fuzz '^FuzzFeatures$$' -fuzztime 75000x ./internal/httpapi
	go test -run '^$$' -fuzz '^FuzzFeast$$' -fuzztime 120000x ./internal/httpapi

clean: ## remove what was built and cached here
	rm -rf bin .cache
