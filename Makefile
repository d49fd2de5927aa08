# The front door. `make` or `make help` lists what there is. Nothing has to be installed by hand beyond Rust, Python 3
# and a C compiler: each target gets what it needs, says so, and keeps it in ignored folders or in cargo's own.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where `make run` keeps its state. The runtime directory is on tmpfs: weights will live there.
RUN_DIR ?= .run
RUN_RUNTIME ?= /dev/shm/hoist-run-$(shell id -u)
RUN_ENDPOINT = unix://$(RUN_RUNTIME)/hoist.sock

# Folders with models for `make run`, separated by spaces. Empty: a small demonstration is made.
MODELS ?=

VENV = .venv
PYTHON = $(VENV)/bin/python
# Trees of models for `make test-fixtures`, and what makes them.
FIXTURES = .cache/fixtures
FIXTURES_PYTHON = $(FIXTURES)/venv/bin/python
FIXTURES_NEED = torch==2.11.0 safetensors==0.8.0 diffusers==0.42.1 transformers==5.23.0 peft==0.21.2 gguf==0.19.0 \
	accelerate onnx onnxscript tokenizers
# Those that load weights, for `make bench-peers`. PyPI has PyTorch for Linux with CUDA only, which is most of it.
PEERS = .venv-peers
PEERS_NEED = torch==2.11.0 numpy==2.4.6 safetensors==0.8.0
# For the tests of the Python client with them.
PEERS_TEST_NEED = diffusers==0.42.1 transformers==5.23.0
# Not for every platform and Python: without them their rows say so.
PEERS_MAY = fastsafetensors==0.5.0 runai-model-streamer==0.17.0
# Multiplies the rounds of every randomised test: `make soak SOAK=200`.
SOAK ?= 50

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## Build, start Hoist with some models, and say what to try (MODELS="DIR ..." for your own; Ctrl-C stops it)
	@scripts/run "$(RUN_DIR)" "$(RUN_RUNTIME)" $(MODELS)

.PHONY: libtorch
libtorch: $(VENV)/ready ## Fetch the CPU half of libtorch for the worker (520 MB once; HOIST_LIBTORCH names an installed PyTorch)
	@$(PYTHON) scripts/libtorch

.PHONY: build
build: libtorch ## Build everything
	cargo build --workspace --locked

.PHONY: test
test: test-rust test-python ## Set everything up and run all tests

.PHONY: test-rust
test-rust: libtorch ## The Rust tests, the real binaries included
	@scripts/setup nextest strace
	cargo build --locked -p hoist-cli -p hoist-gpu-worker
	cargo nextest run --workspace --locked $(NEXTEST_FLAGS)
	cargo test --workspace --locked --doc -q

.PHONY: test-python
test-python: libtorch ## The Python client against the real binary
	cargo build --locked -p hoist-cli -p hoist-gpu-worker
	HOIST_BINARY="$(CURDIR)/target/debug/hoist" $(PYTHON) -m pytest clients/python -q

.PHONY: test-torch
test-torch: $(PEERS)/test-ready ## The Python client with torch, transformers and diffusers (5 GB of PyTorch the first time)
	cargo build --locked -p hoist-cli
	HOIST_BINARY="$(CURDIR)/target/debug/hoist" $(PEERS)/bin/python -m pytest -q \
		clients/python/tests/test_tensors.py clients/python/tests/test_libraries.py \
		clients/python/tests/test_attach.py clients/python/tests/test_cuda.py

.PHONY: fixtures
fixtures: $(FIXTURES)/ready ## Make the large trees of models for test-fixtures (a few minutes, 6 GB with PyTorch)

.PHONY: test-fixtures
test-fixtures: libtorch fixtures ## Compare what Hoist says of those trees, and loads of them, with what their makers say and load
	cargo build --locked -p hoist-cli -p hoist-gpu-worker
	HOIST_FIXTURES="$(CURDIR)/$(FIXTURES)" cargo test --locked -p hoist-tests --test catalog_fixtures --test residency_bits -- --ignored

.PHONY: lint
lint: libtorch ## Format, clippy, contract, dependencies, Python types
	@scripts/lint

.PHONY: proto
proto: $(VENV)/ready ## Generate the Python stubs from proto/ anew
	$(PYTHON) clients/python/generate.py

.PHONY: bench
bench: libtorch ## Measure, in a release build; prints a table (BENCH_FLAGS=--quick for a short one)
	cargo build --release --locked -p hoist-cli -p hoist-tests -p hoist-gpu-worker
	target/release/hoist-bench --python $(PYTHON) $(BENCH_FLAGS)
	cargo bench --locked -p hoist-planner -p hoist-formats

.PHONY: bench-peers
bench-peers: $(PEERS)/ready ## Load a file of 4.2 GB with Hoist and with others; prints tables (PEERS_FLAGS=--quick for a short one)
	cargo build --release --locked -p hoist-cli
	$(PEERS)/bin/python clients/python/bench/peers.py --hoist target/release/hoist $(PEERS_FLAGS)

.PHONY: soak
soak: libtorch ## The long runs: every randomised test with SOAK times its rounds
	@scripts/setup nextest strace
	cargo build --release --locked -p hoist-cli
	HOIST_SOAK=$(SOAK) HOIST_SOAK_SEEDS=$$(( $(SOAK) * 1000 )) PROPTEST_CASES=$$(( $(SOAK) * 256 )) cargo nextest run --release --workspace --locked --profile soak

.PHONY: gpu-bundle
gpu-bundle: libtorch ## Make target/gpu-bundle: what tests/gpu/run needs on a machine with a card (a release build; root checks more)
	@scripts/gpu-bundle

.PHONY: fmt
fmt: ## Format Rust and Python
	cargo fmt
	@[ ! -e $(VENV)/bin/ruff ] || $(VENV)/bin/ruff format clients/python

.PHONY: clean
clean: ## Remove everything that was built or downloaded into this folder
	cargo clean
	rm -rf $(VENV) $(PEERS) $(RUN_DIR) .libtorch

$(VENV)/ready: clients/python/pyproject.toml
	@echo "setup: Python environment in $(VENV) (about 150 MB: grpcio, protobuf, pytest, mypy, ruff, buf)"
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --editable 'clients/python[dev]'
	@touch $@

$(PEERS)/ready: clients/python/pyproject.toml
	@echo "setup: Python environment in $(PEERS) (about 5 GB: PyTorch with CUDA, and those that load weights)"
	python3 -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet $(PEERS_NEED) --editable clients/python
	for one in $(PEERS_MAY); do \
		$(PEERS)/bin/python -m pip install --quiet "$$one" || echo "setup: $$one cannot be installed here, and is left out"; \
	done
	@touch $@

$(PEERS)/test-ready: $(PEERS)/ready
	$(PEERS)/bin/python -m pip install --quiet --editable 'clients/python[test]' $(PEERS_TEST_NEED)
	@touch $@

$(FIXTURES)/ready: $(wildcard tests/fixtures/*.py)
	@echo "setup: Python environment in $(FIXTURES)/venv (about 4 GB: PyTorch and the libraries that write models)"
	[ -x $(FIXTURES_PYTHON) ] || python3 -m venv $(FIXTURES)/venv
	$(FIXTURES_PYTHON) -m pip install --quiet $(FIXTURES_NEED)
	$(FIXTURES_PYTHON) tests/fixtures/make_corpus.py $(FIXTURES)/corpus --seed 1
	$(FIXTURES_PYTHON) tests/fixtures/make_corrupt.py $(FIXTURES)/corrupt --seed 1 --corpus $(FIXTURES)/corpus
	@touch $@
