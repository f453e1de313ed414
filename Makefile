# Everything that a person or a CI runs. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS_VENV := .venv-protos
# Into a terminal pip shows its progress; into a file it would only fill it.
PIP_INSTALL := -m pip install --disable-pip-version-check $(shell test -t 2 || echo --quiet)
PROTO_FILES = $(shell find protos -name '*.proto' | sort)
CODE := services signals meshkit pipeline meshctl recmesh_client benchmarks deploy tests
COMPILED := $(shell grep -rl --include='*.py' 'import njit' services signals pipeline)

.PHONY: help setup kernels demo test drill bench bench-tracing bench-growth bench-quality compose-test compose-smoke check format format-check lint typecheck protos protos-check lock clean

help: ## List these targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.installed ## Install everything into .venv, by hash.

$(VENV)/.installed: requirements/all.lock pyproject.toml recmesh_client/pyproject.toml
	@echo "Installing into $(VENV) (about a minute; Annoy is compiled here)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "recmesh needs Python 3.11 or newer; this is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements/all.lock
	@$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

# Once, and not by every process of the first mesh at the same time: on busy cores that took 90 s.
kernels: build/.kernels

build/.kernels: $(VENV)/.installed $(COMPILED)
	@mkdir -p build
	@$(BIN)/python -m tests.compiled_kernels
	@touch $@

demo: setup ## Train on a synthetic music world, serve it, ask it, stop it.
	@$(BIN)/meshctl demo

# What failed is tried once more by itself, and said: only what fails twice fails the target.
# A run that ended for another reason than tests that failed (status 1) fails it at once, and so
# does a second run that finds nothing to run.
define tests_twice
	$(BIN)/python -m pytest -o timeout=240 --cache-clear $(1) || { \
		test $$? -eq 1 || exit 1; \
		echo "--- Tests failed, see above. Each is now run once more, with nothing beside it. ---"; \
		$(BIN)/python -m pytest -o timeout=240 --last-failed --last-failed-no-failures=none $(2); \
		echo "--- All that failed before passed alone. Look into why: see the first run above. ---"; }
endef

# What tests build and only read, such as a trained world, all passes share. Files come in their
# order, units last: in xdist's own, most tests first, the longest would be left for the end.
test: setup kernels ## Run the tests; those that fail beside others once more, by themselves.
	@export RECMESH_TESTS_BUILT="$$(mktemp -d)"; trap 'rm -rf "$$RECMESH_TESTS_BUILT"' EXIT; \
	$(call tests_twice,-n 2 --dist loadfile --no-loadscope-reorder -m "not load" $(TESTS),-m "not load" $(TESTS)); \
	$(call tests_twice,-m load $(TESTS),-m load $(TESTS))

drill: setup ## Break a mesh on purpose, and bundles under load, full size (about 30 minutes).
	@$(BIN)/meshctl drill
	@RECMESH_DRILL=full $(BIN)/python -m pytest -s -o timeout=560 tests/e2e/test_rollout_drill.py

bench: setup ## Compare the ranking kernel and the mesh with their peers, in one run (about 6 minutes).
	@mkdir -p build/bench
	@$(BIN)/python -m benchmarks.kernel --json build/bench/kernel.json
	@$(BIN)/python -m benchmarks.features --json build/bench/features.json
	@$(BIN)/python -m benchmarks.throughput --json build/bench/throughput.json

bench-tracing: setup ## Measure what tracing costs (about 4 minutes).
	@mkdir -p build/bench
	@$(BIN)/python -m benchmarks.tracing --rounds 14 --requests 250 --json build/bench/tracing.json

bench-growth: setup ## Measure catalogues of 10 thousand to 1 million items (about 10 minutes).
	@mkdir -p build/bench
	@$(BIN)/python -m benchmarks.growth --json build/bench/growth.json

bench-quality: setup ## Compare the ranked list with its peers on the public data sets that RECMESH_DATA has.
	@$(BIN)/python -m benchmarks.quality --json build/bench/quality.json

compose-test: setup ## Run the containers' core profile under podman, break it, see it mend.
	@deploy/compose/test.sh

compose-smoke: setup ## Check the whole stack of `docker compose up`.
	@$(BIN)/python -m deploy.compose.smoke

check: setup ## What CI runs: what looks at the code, two at a time, then the tests.
	@$(MAKE) --no-print-directory -j 2 --output-sync=target format-check lint typecheck protos-check kernels
	@$(MAKE) --no-print-directory test

format: setup ## Format the code.
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix --quiet $(CODE)

format-check: setup
	@$(BIN)/ruff format --check $(CODE)

lint: setup ## Lint code, import rules, protos and their compatibility, Dockerfile, compose, manifests.
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/lint-imports
	@$(BIN)/buf lint
	@$(BIN)/buf breaking --against protos/released.binpb
	@$(BIN)/python deploy/lint.py

typecheck: setup ## mypy --strict.
	@$(BIN)/mypy $(CODE)

$(PROTOS_VENV)/.installed: requirements/protos.lock
	@test -x $(PROTOS_VENV)/bin/python || $(PYTHON) -m venv $(PROTOS_VENV)
	@$(PROTOS_VENV)/bin/python $(PIP_INSTALL) --require-hashes -r requirements/protos.lock
	@touch $@

# Stubs come from the oldest grpcio-tools that we support: generated code
# refuses runtimes older than its generator.
define generate_stubs
	PATH="$(CURDIR)/$(PROTOS_VENV)/bin:$$PATH" $(PROTOS_VENV)/bin/python -m grpc_tools.protoc -I protos \
		--python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTO_FILES)
endef

protos: $(PROTOS_VENV)/.installed ## Generate the stubs in gen/.
	@rm -rf gen && mkdir gen
	@$(call generate_stubs,gen)

protos-check: $(PROTOS_VENV)/.installed ## Fail when gen/ is not what protos/ generates.
	@rm -rf build/gen && mkdir -p build/gen
	@$(call generate_stubs,build/gen)
	@diff -r -x __pycache__ gen build/gen && echo "gen/ is up to date"

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: setup ## Write the lock files anew, at the newest versions.
	@$(LOCK) --upgrade --extra dev --no-emit-package recmesh-client pyproject.toml -o requirements/all.lock
	@$(LOCK) --upgrade requirements/protos.in -o requirements/protos.lock

clean: ## Remove what make made.
	@rm -rf $(VENV) $(PROTOS_VENV) build dist .recmesh
