# The commands of the house; `make` lists them.

.DEFAULT_GOAL := help
.PHONY: help demo test peers check fmt clippy doc deny tidy release bench bench-crowd bench-peers faults soak fuzz advisories

# Pinned, so that a check means the same everywhere; in a folder by version, so that a new one is fetched.
DENY_VERSION := 0.20.2
DENY := .tools/cargo-deny-$(DENY_VERSION)/bin/cargo-deny

# How long each fuzz target runs, and which: all of them where none is named.
FUZZ_SECONDS ?= 10
FUZZ_TARGETS ?=

# How long a soak takes.
SOAK ?= 3m

# What tests talk to beside Rust's own, as PACKAGE:PROGRAM.
PEERS := haproxy:haproxy openssl:openssl curl:curl pebble:pebble nghttp2-client:h2load nghttp2-server:nghttpd \
	faketime:faketime iproute2:ip

# The load of the benchmarks is a crate of its own, and is checked like this one.
LOAD := benches/peers/load/Cargo.toml
LOAD_TARGET := $(or $(CARGO_TARGET_DIR),target)/peers

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## three small upstreams, a proxy, a load and a live view
	cargo run --release --locked -- demo

# Benchmarks have a main of their own and are no tests, so the targets are named.
test: peers ## run every test
	cargo test --locked --lib --bins --tests
	cargo test --locked --doc
	cargo test --locked --manifest-path $(LOAD) --target-dir $(LOAD_TARGET)

peers: ## install what tests talk to, where it is missing
	@.ci/peers $(PEERS)

check: fmt clippy doc deny tidy ## everything but the tests: format, lints, docs, licences, floors

fmt: ## is everything formatted?
	cargo fmt --check
	cargo fmt --check --manifest-path $(LOAD)

clippy: ## lints, on everything that is built
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --lib --bins -- -D warnings
	cargo clippy --locked --all-targets --manifest-path $(LOAD) --target-dir $(LOAD_TARGET) -- -D warnings

# The docs are for those who read the source: a module's reading order may lead to its private rooms.
doc: ## do the docs build, without a broken link?
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' \
		cargo doc --locked --no-deps --document-private-items

deny: $(DENY) ## licences, duplicates and sources of the dependencies
	$(DENY) check bans licenses sources

tidy: ## floors, sizes, the root and links in the docs
	cargo test --locked --test tidy

release: ## the fastest binary: built with a profile of its own work
	python3 benches/peers/release.py

bench: ## run the benchmarks; they print and judge nothing
	cargo bench --locked --benches

bench-crowd: release ## latency beside 10 000 idle and 1 000 slow clients
	python3 benches/peers/crowd.py

bench-peers: release ## CPU, memory, latency and handshakes beside nginx, HAProxy and Envoy; writes docs/performance
	python3 benches/peers/run.py

faults: ## what faults of endpoints cost, at 2000 requests a second
	python3 benches/peers/faults.py

# WEIR=PATH soaks another binary than that of the tests.
soak: ## clients of every kind and endpoints that come and go, for SOAK (3m; or 20s, 2h); what was taken is given back
	SOAK=$(SOAK) cargo test --locked --test soak

fuzz: ## fuzz the parsers, each for FUZZ_SECONDS
	.ci/fuzz $(FUZZ_SECONDS) $(FUZZ_TARGETS)

advisories: $(DENY) ## known vulnerabilities in the dependencies (needs a network)
	$(DENY) check advisories

# It runs for a second, so it is built to be built quickly.
$(DENY):
	CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
		cargo install --locked --root .tools/cargo-deny-$(DENY_VERSION) cargo-deny@$(DENY_VERSION)
