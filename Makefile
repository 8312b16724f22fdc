# Every target installs what it needs first; nothing is downloaded later than that.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help setup redis run test test-slow lint type bench bench-pool bench-scrape bench-detectors bench-guard bench-flow bench-house proto render clean

help:            ## Show the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Install Sluice, Envoy and the development tools into .venv

$(STAMP): pyproject.toml requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: set PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the tested versions into $(VENV) (about half a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock --no-deps
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@command -v redis-server >/dev/null || $(MAKE) --no-print-directory redis || echo "Without redis-server the tests of shared state are skipped." >&2
	@touch $(STAMP)

redis:           ## Install Debian's redis-server, which tests of shared state use (as root)
	@test "$$(id -u)" = 0 || { echo "redis-server is not installed: run 'make redis' as root" >&2; exit 1; }
	@apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends redis-server >/dev/null

run: setup       ## Start the quickstart gateway on http://127.0.0.1:10000 and send it a few requests
	@$(BIN)/python -m bench.quickstart

test: setup      ## Run the tests, on a real Envoy where it matters
	@$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: setup ## The exhaustive tests, faults where Envoy counts tokens, and end to end on the gRPC library
	@$(BIN)/python -m pytest -m slow
	@SLUICE_TEST_USAGE=envoy $(BIN)/python -m pytest tests/e2e/test_failures.py tests/e2e/test_guard_failures.py tests/e2e/test_bad_answers.py
	@SLUICE_TRANSPORT=grpcio $(BIN)/python -m pytest tests/e2e

lint: setup      ## Style, unused code, direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

type: setup      ## Strict type checking
	@$(BIN)/mypy

bench: setup     ## Compare the filter with an empty one, side by side, on a real Envoy
	@$(BIN)/python -m bench.filter

proto: setup     ## Compile the messages of proto/ into extproc/wire/proto
	@$(BIN)/python -m extproc.agents.proto.generate

bench-pool: setup    ## Compare the pool policies with other products' rules, on the shared traces
	@$(BIN)/python -m bench.pool

bench-scrape: setup ## Measure what reading the metrics of 100 endpoints costs
	@$(BIN)/python -m bench.scrape

bench-detectors: setup ## Detection rates and cost, beside Presidio's defaults and detect-secrets
	@$(BIN)/python -m bench.detectors

bench-guard: setup   ## Harmless conversations through the default security policy
	@$(BIN)/python -m bench.guard

bench-flow: setup    ## Flow control under load, shortest job first, and what a decision costs
	@$(BIN)/python -m bench.flow

bench-house: setup   ## The state of the code base in figures
	@$(BIN)/python -m bench.house

render: setup    ## Write the Envoy examples in envoy/ and the generated reference in docs/
	@$(BIN)/python -m extproc.render.examples envoy
	@$(BIN)/python -m extproc schema --format markdown > docs/reference.md

clean:           ## Remove what setup made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
