# Everything runs in .venv, which each target makes when it is missing.  `make help` lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := PATH="$(CURDIR)/$(BIN):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help setup demo test check fmt lint types imports bench clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.user

setup: $(VENV)/.dev ## Make .venv with everything that development needs

demo: $(VENV)/.user ## The main job on real text: add, search, context, and a look at what is on disk
	@$(BIN)/python examples/demo.py

test: $(VENV)/.dev ## All tests
	@$(RUN) python -m pytest -n 2 --dist worksteal

fmt: $(VENV)/.dev ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lint: $(VENV)/.dev ## Format and lint, as CI wants them
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(VENV)/.dev ## mypy --strict on package, tests and examples
	@$(BIN)/python -m mypy

imports: $(VENV)/.dev ## Layers import downwards only
	@$(BIN)/lint-imports

check: lint types imports ## What CI runs: format, lint, types, imports, tests with coverage
	@$(RUN) python -m pytest -n 2 --dist worksteal --cov --cov-report=term:skip-covered --cov-fail-under=90

bench: $(VENV)/.dev ## Timings, as ratios measured side by side
	@$(BIN)/python -m tests.benchmarks

clean: ## Remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
