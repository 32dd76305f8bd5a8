# Everything runs in .venv, which each target makes when it is missing; what wants other versions of the same packages,
# in an environment of its own.  `make help` lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := PATH="$(CURDIR)/$(BIN):$$PATH"
# A third worker: some tests wait for an answer that does not come.
TESTS  := -n 3 --dist worksteal

# What most users of LlamaIndex have: its package of packages, which wants openai below 3.
LLAMA  := .venv-llama
LLAMA_TESTS := $(wildcard tests/adapters/test_llama_index*.py) tests/adapters/test_conversation.py \
	tests/managed/test_sdks.py tests/managed/test_faults.py::TestOpenAI tests/embedders/test_bridges.py

.DEFAULT_GOAL := help
.PHONY: help setup demo test llama check fmt lint types imports bounds bench clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: pyproject.toml | $(BIN)/python
	@$(BIN)/python scripts/install.py --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@$(BIN)/python scripts/install.py --editable '.[dev]'
	@touch $@ $(VENV)/.user

$(LLAMA)/.ready: pyproject.toml
	@test -x $(LLAMA)/bin/python || $(PYTHON) -m venv $(LLAMA)
	@$(LLAMA)/bin/python scripts/install.py --editable '.[llama-index,openai,test]' 'llama-index>=0.14.5' 'openai<3'
	@touch $@

setup: $(VENV)/.dev ## Make .venv with everything that development needs

demo: $(VENV)/.user ## The main job on real text: add, search, context, and a look at what is on disk
	@$(BIN)/python examples/demo.py

test: $(VENV)/.dev ## All tests
	@$(RUN) python -m pytest $(TESTS)

llama: $(LLAMA)/.ready ## Tests of the LlamaIndex adapter in .venv-llama, with the package llama-index and an older openai
	@$(LLAMA)/bin/python -m pytest $(TESTS) $(LLAMA_TESTS)

fmt: $(VENV)/.dev ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lint: $(VENV)/.dev ## Format and lint, as CI wants them
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(VENV)/.dev ## mypy --strict on package, tests and examples
	@$(BIN)/python -m mypy

imports: $(VENV)/.dev ## Layers import downwards only
	@$(BIN)/lint-imports

check: $(VENV)/.dev ## What CI runs: format, lint, types, imports, tests with coverage, tests of llama
	@$(MAKE) --no-print-directory --jobs=2 --output-sync lint imports types $(LLAMA)/.ready
	@$(RUN) python -m pytest $(TESTS) --cov --cov-report=term:skip-covered --cov-fail-under=90
	@$(MAKE) --no-print-directory llama

bounds: $(VENV)/.dev ## The lowest versions that the extras allow, installed and tried; needs a network, takes minutes
	@$(BIN)/python scripts/check_lower_bounds.py --tests

bench: $(VENV)/.dev ## Timings, as ratios measured side by side
	@$(BIN)/python -m tests.benchmarks

clean: ## Remove what the targets made
	rm -rf $(VENV) $(LLAMA) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
