# The one list of commands; CI calls it too. `make` alone prints it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# Cargo.lock is what was tested; a build that would change it is an error.
LOCKED := --locked
TOOLS := $(CURDIR)/target/tools
DENY_VERSION := 0.20.2

.PHONY: help
help: ## Prints this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo demo-stop
demo: ## Shows the product on real models, from nothing; KEEP=1 DEMO_DIR=path leaves it running
	@packaging/prerequisites build
	@packaging/fetch-models
	@$(CARGO) build $(LOCKED) --release -p synesisd -p synesis-runtime -p synctl -p synesis-gateway
	@DEMO_DIR="$(DEMO_DIR)" KEEP="$(KEEP)" packaging/demo run

demo-stop: ## Ends a demo that was left running (DEMO_DIR=path)
	@DEMO_DIR="$(DEMO_DIR)" packaging/demo stop

.PHONY: test
test: prerequisites models clients fmt lint ## Everything that must hold; what CI calls
	$(CARGO) build $(LOCKED) --workspace --all-targets
	systemd/check
	$(CARGO) test $(LOCKED) --workspace --no-fail-fast

.PHONY: check
check: fmt lint deny ## Quick: format, lints, dependencies, the tests that need no model
	$(CARGO) test $(LOCKED) -p synesis-proto -p synesis-ledger -p synesis-store -p synesis-privacy -p synesis-supervise -p synesis-mesh
	$(CARGO) test $(LOCKED) -p synesis-tests --test dependency_table

.PHONY: fmt lint deny prerequisites models clients
fmt: ## Fails when a file is not formatted
	$(CARGO) fmt --all --check

lint: ## clippy, warnings denied
	$(CARGO) clippy $(LOCKED) --workspace --all-targets -- -D warnings

deny: ## Licences, sources and banned crates (deny.toml); installs cargo-deny into target/tools once
	@[ "$$($(TOOLS)/bin/cargo-deny --version 2>/dev/null)" = "cargo-deny $(DENY_VERSION)" ] || \
	  $(CARGO) install --quiet --locked --root $(TOOLS) cargo-deny@$(DENY_VERSION)
	$(TOOLS)/bin/cargo-deny --locked check bans licenses sources

.PHONY: bench-runtime bench-router bench-tunnel chaos cuts
bench-runtime: ## Speed beside llama.cpp's own server, into target/bench/runtime.json (BENCH_ROWS=generation,swap: a part)
	@packaging/prerequisites build
	@packaging/fetch-models
	@mkdir -p target/bench
	$(CARGO) build $(LOCKED) --release -p synesisd -p synesis-runtime -p synctl -p synesis-tests --bins --bench bare \
	  --message-format json-render-diagnostics >target/bench/built.json
	@target/release/bench-runtime

bench-router: ## Right answers and their cost, by confidence against at random, into target/bench/router.json
	@packaging/prerequisites build
	@packaging/fetch-models
	$(CARGO) build $(LOCKED) --release -p synesisd -p synesis-runtime -p synctl -p synesis-gateway -p synesis-tests --bins
	@target/release/bench-router

bench-tunnel: ## The tunnel beside quinn, tonic, mosquitto and LiteLLM, into target/bench/tunnel.json (BENCH_ROWS=idle,push: a part)
	@packaging/prerequisites bench
	@mkdir -p target/bench
	@# First, and on its own: with a bench come the features of its tests (tokio's clock that can be paused), and with the bench the
	@# gateway's program. What is measured has to be built without them, so the second build has the last word.
	$(CARGO) build $(LOCKED) --release -p synesis-gateway --bench resume --message-format json-render-diagnostics >target/bench/built-tunnel.json
	$(CARGO) build $(LOCKED) --release -p synesisd -p synctl -p synesis-gateway -p synesis-load -p synesis-tests --bins
	@target/release/bench-tunnel

chaos: ## Ten minutes of a model process that is killed, stopped and starved (SYNESIS_CHAOS_SECONDS: other than 600)
	@packaging/prerequisites test
	@packaging/fetch-models
	$(CARGO) build $(LOCKED) --workspace --all-targets
	SYNESIS_CHAOS_SECONDS="$${SYNESIS_CHAOS_SECONDS:-600}" $(CARGO) test $(LOCKED) -p synesis-tests --test faults_chaos -- --nocapture

cuts: ## 100 cuts of 0.1 to 60 s in streaming cloud answers (SYNESIS_CUTS, SYNESIS_CUT_SECONDS: others); about an hour
	@packaging/prerequisites test
	$(CARGO) build $(LOCKED) --workspace --all-targets
	SYNESIS_CUTS="$${SYNESIS_CUTS:-100}" SYNESIS_CUT_SECONDS="$${SYNESIS_CUT_SECONDS:-60}" \
	  $(CARGO) test $(LOCKED) -p synesis-tests --test faults_links -- --nocapture

.PHONY: fuzz
fuzz: ## Every decoder of a stranger's bytes under libFuzzer, a minute each (FUZZ_SECONDS; FUZZ_TARGETS="frames gguf": some)
	@fuzz/run

.PHONY: man
man: ## Generates the man pages and completions of synctl into target/man
	@$(CARGO) run $(LOCKED) --quiet -p synctl -- man --dir target/man

prerequisites: ## Installs the Debian packages that building and testing need
	@packaging/prerequisites test

models: ## Fetches and verifies the demo models, outside the tree
	@packaging/fetch-models

clients: ## Installs the Python clients that the endpoint is tested with, outside the tree
	@packaging/fetch-clients
