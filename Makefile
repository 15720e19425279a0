# Haulyard. `make help` lists what there is.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PKGS   := libs/contracts libs/zipline libs/chassis services/gateway services/orchestrator services/archiver services/notifier clients/python devstack
READY  := $(VENV)/.ready
DEPLOY := $(VENV)/.ready-deploy
SRC    := libs services clients/python devstack tests tools bench examples

# The page: built where Node is new enough; without it everything else works, and / says what is missing.
NODE    := $(shell node -e 'const [a, b] = process.versions.node.split("."); process.exit(+a > 20 || (+a == 20 && +b >= 19) ? 0 : 1)' 2>/dev/null && command -v npm)
MODULES := node_modules/.ready
PAGE    := services/gateway/src/haulyard_gateway/static/index.html
WEB_SRC := $(shell find web clients/react -type f -not -path '*/node_modules/*' -not -path '*/dist/*' -not -path '*/test/*')

.DEFAULT_GOAL := help
.PHONY: help install demo up down status web test test-unit test-integration test-e2e test-web check docs bench load growth containers chaos scaling fmt lock clean

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

$(DEPLOY): requirements-deploy.lock $(READY)
	@echo "Installing what checks helm/ and deploy/ (once)"
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements-deploy.lock
	@touch $@

ifdef NODE
page := $(PAGE)
else
page := no-node
endif
.PHONY: no-node

no-node:
	@echo "The page at / is not built: that takes Node.js 20.19 or newer, with npm"

# Without the registry all but the page still works, as without Node. A page that does not build is an error.
NO_MODULES := echo "The page at / is not built: what it is built with cannot be fetched (npm ci says why)"

$(MODULES): package-lock.json package.json clients/react/package.json web/package.json
	@echo "Fetching what the page is built with (once)"
	@if npm ci --silent --no-progress; then touch $@; else $(NO_MODULES); fi

$(PAGE): $(MODULES) $(WEB_SRC) tsconfig.base.json
	@if [ -f $(MODULES) ]; then npm run --silent build --workspace web -- --logLevel warn && touch $@; fi

web: $(page) ## Build the page that the gateway serves at /

demo: $(READY) $(page) ## Start everything, make a real job, download and check its ZIP, stop
	@$(BIN)/haulyard-devstack demo

up: $(READY) $(page) ## Start everything and keep it in the foreground (Ctrl-C stops it)
	@$(BIN)/haulyard-devstack up

down: $(READY) ## Stop what `make up` started
	@$(BIN)/haulyard-devstack down

status: $(READY) ## Say what runs and whether it answers
	@$(BIN)/haulyard-devstack status

test: $(READY) $(DEPLOY) $(page) test-web ## Run every test (unit, integration, end to end)
	@$(BIN)/pytest

test-unit: $(READY) $(DEPLOY) ## Run the tests that need no service
	@$(BIN)/pytest tests/unit

test-integration: $(READY) ## Run the adapters' tests against real NATS, PostgreSQL, Valkey and S3
	@$(BIN)/pytest tests/integration

test-e2e: $(READY) $(DEPLOY) $(page) ## Run whole flows over HTTP with real processes
	@$(BIN)/pytest tests/e2e

ifdef NODE
test-web: $(MODULES) ## Lint, type-check and test the React client and the page
	@if [ -f $(MODULES) ]; then npm run --silent lint && npm run --silent test --workspaces; else $(NO_MODULES); fi
else
test-web: no-node
endif

check: $(READY) $(DEPLOY) ## Lint, types, architecture, stale generated files
	@$(BIN)/ruff format --check $(SRC)
	@$(BIN)/ruff check $(SRC)
	@$(BIN)/mypy $(PKGS:%=%/src) tests tools bench examples
	@$(BIN)/lint-imports
	@$(BIN)/python tools/generate_docs.py --check
	@$(BIN)/python tools/generate_observability.py --check
	@$(BIN)/python tools/render_k8s.py --check

docs: $(READY) $(DEPLOY) ## Write what comes from the code: pages of docs/, dashboards, plain manifests
	@$(BIN)/python tools/generate_docs.py
	@$(BIN)/python tools/generate_observability.py
	@$(BIN)/python tools/render_k8s.py

bench: $(READY) ## Measure speed and memory beside what the store itself does; writes bench/results/
	@$(BIN)/python bench/bench.py

containers: $(READY) $(DEPLOY) $(page) ## Build the images, bring compose up, do a job, test on testcontainers (as root, or with an engine)
	@PYTHONPATH=tests $(BIN)/python -m containers.run $(CONTAINERS)

chaos: $(READY) ## Kill processes and servers under a thousand jobs, then audit (CHAOS="--jobs 200 --seed 7")
	@PYTHONPATH=tests $(BIN)/python -m chaos.run $(CHAOS)

load: $(READY) ## Measure with many jobs and many who watch (LOAD="seed", "flood --jobs 10000", "initiate"); docs/load.md
	@$(BIN)/python bench/load.py $(LOAD)

growth: $(READY) ## Measure with ever more finished jobs, and with 1, 2 and 4 archivers; docs/load.md
	@PYTHONPATH=tests $(BIN)/python bench/growth.py $(GROWTH)

scaling: $(READY) ## Compute the tables of docs/scaling.md anew (SCALING=--count counts what jobs use up)
	@$(BIN)/python bench/scaling.py $(or $(SCALING),--write)

fmt: $(READY) ## Format the code
	@$(BIN)/ruff check --fix --quiet $(SRC) || true
	@$(BIN)/ruff format $(SRC)
	@if [ -f $(MODULES) ]; then npm run --silent format >/dev/null; fi

NO_EMIT := $(foreach p,workspace archiver chassis contracts devstack gateway notifier orchestrator zipline,--no-emit-package haulyard-$(p)) --no-emit-package haulyard
LOCK    := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 $(NO_EMIT)

lock: $(READY) ## Pin the dependencies anew, with hashes (UPGRADE=--upgrade for newer versions)
	@$(LOCK) $(UPGRADE) pyproject.toml -o requirements.lock
	@$(LOCK) $(UPGRADE) pyproject.toml --group dev -o requirements-dev.lock
	@$(LOCK) $(UPGRADE) --group deploy -c requirements-dev.lock -o requirements-deploy.lock

clean: down ## Remove the virtual environment and all local data
	rm -rf $(VENV) .haulyard node_modules $(dir $(PAGE))
