# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The home of the demo and of `make ui`; any other: make ui CARDLINE_HOME=/elsewhere
export CARDLINE_HOME ?= $(CURDIR)/.cardline

.PHONY: demo test test-slow lint ui clean help

help:  ## What there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
		|| { echo "error: Python 3.11 or 3.12 is needed: make demo PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)  ## Build a synthetic portfolio and run the whole pipeline into ./.cardline
	$(BIN)/cardline demo

test: $(STAMP)  ## All checks and tests that end within minutes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/sqlfluff lint --processes 2 dbt/models dbt/tests
	$(BIN)/pytest -m "not slow" -n 2 --dist loadscope --no-loadscope-reorder --durations=25

test-slow: $(STAMP)  ## The long runs: at size and on whole public data sets
	$(BIN)/pytest -m slow

lint: $(STAMP)  ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

ui: $(STAMP)  ## The Dagster UI on the demo's home
	$(BIN)/cardline ui

clean:  ## Remove the demo's home; the virtual environment stays
	rm -rf .cardline
