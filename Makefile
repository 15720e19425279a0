# Haulyard. `make help` lists what there is.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PKGS   := libs/contracts libs/zipline libs/chassis services/gateway services/orchestrator services/archiver services/notifier devstack
READY  := $(VENV)/.ready
SRC    := libs services devstack tests tools bench

.DEFAULT_GOAL := help
.PHONY: help install demo up down status test test-unit test-integration test-e2e check docs bench fmt lock clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## Install everything into .venv (the other targets do it by themselves)

$(READY): requirements-dev.lock $(PKGS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Haulyard needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "This Python has no venv module (on Debian: apt install python3-venv)"; exit 1; }
	@echo "Installing into $(VENV) (about half a minute, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation $(PKGS:%=-e %)
	@touch $@

demo: $(READY) ## Start everything, make a real job, download and check its ZIP, stop
	@$(BIN)/haulyard-devstack demo

up: $(READY) ## Start everything and keep it in the foreground (Ctrl-C stops it)
	@$(BIN)/haulyard-devstack up

down: $(READY) ## Stop what `make up` started
	@$(BIN)/haulyard-devstack down

status: $(READY) ## Say what runs and whether it answers
	@$(BIN)/haulyard-devstack status

test: $(READY) ## Run every test (unit, integration, end to end)
	@$(BIN)/pytest

test-unit: $(READY) ## Run the tests that need no service
	@$(BIN)/pytest tests/unit

test-integration: $(READY) ## Run the adapters' tests against real NATS, PostgreSQL, Valkey and S3
	@$(BIN)/pytest tests/integration

test-e2e: $(READY) ## Run whole flows over HTTP with real processes
	@$(BIN)/pytest tests/e2e

check: $(READY) ## Lint, types, architecture, stale generated files
	@$(BIN)/ruff format --check $(SRC)
	@$(BIN)/ruff check $(SRC)
	@$(BIN)/mypy $(PKGS:%=%/src) tests tools bench
	@$(BIN)/lint-imports
	@$(BIN)/python tools/generate_docs.py --check

docs: $(READY) ## Write the pages of docs/ that come from the code
	@$(BIN)/python tools/generate_docs.py

bench: $(READY) ## Measure speed and memory beside what the store itself does; writes bench/results/
	@$(BIN)/python bench/bench.py

fmt: $(READY) ## Format the code
	@$(BIN)/ruff check --fix --quiet $(SRC) || true
	@$(BIN)/ruff format $(SRC)

NO_EMIT := $(foreach p,workspace archiver chassis contracts devstack gateway notifier orchestrator zipline,--no-emit-package haulyard-$(p))
LOCK    := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 $(NO_EMIT)

lock: $(READY) ## Pin the dependencies anew, with hashes (UPGRADE=--upgrade for newer versions)
	@$(LOCK) $(UPGRADE) pyproject.toml -o requirements.lock
	@$(LOCK) $(UPGRADE) pyproject.toml --group dev -o requirements-dev.lock

clean: down ## Remove the virtual environment and all local data
	rm -rf $(VENV) .haulyard
