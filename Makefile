# Everything runs in a virtual environment of its own: no system package is touched.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo stop test check serve lock clean

help: ## Lists the targets.
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## Makes the virtual environment from the locked requirements.

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Sequela needs Python 3.11 or newer, got $$($(PYTHON) --version 2>&1); run: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: $(STAMP) ## Runs the whole line on a synthetic cohort, in a few minutes.
	$(BIN)/sequela demo

stop: ## Ends the MLflow dashboard that the demo left running.
	@if [ -f demo/mlflow.pid ]; then kill -- -"$$(cat demo/mlflow.pid)" 2>/dev/null; rm -f demo/mlflow.pid; fi; true

test: $(STAMP) ## Runs the tests; SEQUELA_DATA and SEQUELA_TEST_POSTGRES widen what they can reach.
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(STAMP) ## Runs formatter, linter and type checker.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

serve: $(STAMP) ## Serves the registered champion on 127.0.0.1:8000.
	$(BIN)/sequela serve

lock: ## Resolves requirements.lock anew from pyproject.toml.
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check 'pip-tools>=7.5,<8'
	$(VENV)-lock/bin/pip-compile --upgrade --all-extras --strip-extras --constraint=requirements-constraints.in \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file=requirements.lock pyproject.toml

clean: stop ## Removes the virtual environment, caches and what the demo wrote.
	rm -rf $(VENV) $(VENV)-lock .mypy_cache .ruff_cache .hypothesis build dist sequela.egg-info demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
