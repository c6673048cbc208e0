# `make` says what there is. One target directory for all targets, outside the checkout, so that a second checkout
# does not build everything again.
SHELL := /bin/bash
CACHE := $(or $(TIPSTAFF_STACK_CACHE),$(HOME)/.cache/tipstaff-stack)
export CARGO_TARGET_DIR ?= $(CACHE)/target

.DEFAULT_GOAL := help
MINUTES ?= 10
.PHONY: help run test chaos chaos-guards bench soak fuzz lint fmt build image crds charts schema kind-up kind-down audit clean-cache checkout

help: ## Say what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: ## Watch a small sample site in one process, without a cluster; ctrl-C ends it
	@scripts/setup.sh run
	@scripts/checkout.sh
	@scripts/run.sh

test: ## Run all checks and tests, those on the real stack included
	@scripts/setup.sh test
	@scripts/test.sh

chaos: checkout ## All that can fail fails at random for MINUTES=10, chosen by SEED=n: what was promised and not kept is told
	@scripts/setup.sh test
	cargo build --workspace
	"$(CARGO_TARGET_DIR)/debug/stack" build
	"$(CARGO_TARGET_DIR)/debug/chaos" --minutes "$(MINUTES)" $(if $(SEED),--seed "$(SEED)")

chaos-guards: checkout ## Take one guard after the other out of a copy of the code, and see that the chaos notices; GUARDS=NAME takes that alone
	@scripts/setup.sh test
	cargo build --workspace
	"$(CARGO_TARGET_DIR)/debug/stack" build
	scripts/chaos-guards.sh $(GUARDS)

bench: checkout ## Measure, in release: the beat, parsing and comparing in memory, a local start, the crawl role and the operator on the real stack; about 40 minutes
	@scripts/setup.sh test
	cargo build --workspace --release
	"$(CARGO_TARGET_DIR)/release/bench" all

soak: checkout ## Everything under a steady load for HOURS=1, in release: what must not grow does not
	@scripts/setup.sh test
	cargo build --workspace --release
	"$(CARGO_TARGET_DIR)/release/bench" --check soak --minutes $$(( $(or $(HOURS),1) * 60 ))

fuzz: checkout ## Fuzz each parser of foreign input for SECONDS (60); TARGETS="cron html" takes these alone
	@scripts/setup.sh run
	scripts/fuzz.sh $(or $(SECONDS),60) $(TARGETS)

lint: checkout fuzz/Cargo.lock ## Formatting, lints, licences, and generated files against what generates them
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cd fuzz && cargo check --quiet --no-default-features
	cargo run --quiet --bin crdgen -- --check
	cargo run --quiet --bin chartgen -- --check
	cargo run --quiet --bin schemagen -- --check
	scripts/deny.sh

# The fuzzers' programs are a workspace of their own, with the versions that Tipstaff has.
fuzz/Cargo.lock: Cargo.lock
	cp $< $@

checkout:
	@scripts/checkout.sh

fmt: ## Format the code
	cargo fmt --all

crds: checkout ## Generate the custom resource definitions from the Rust types
	cargo run --quiet --bin crdgen

charts: checkout ## Generate the tables in the charts' READMEs from their values.yaml
	cargo run --quiet --bin chartgen

schema: checkout ## Generate the JSON Schema of deliveries from the Rust types
	cargo run --quiet --bin schemagen

kind-up: checkout ## With Docker and kind: a cluster with everything on it, and the example's result
	@scripts/kind.sh up

kind-down: ## Delete that cluster
	@scripts/kind.sh down

build: checkout ## Build the programs for production
	cargo build --workspace --release

image: ## Build the image: with Docker where it runs, else as an archive
	@scripts/image.sh

audit: ## Known vulnerabilities in dependencies; needs the internet
	scripts/deny.sh advisories

clean-cache: ## Remove what was built and downloaded outside the checkout
	rm -rf "$(CACHE)"
