# Every target installs what it needs into a virtual environment. It requires only Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
LINTING := $(VENV)/linting
DEVELOPING := $(VENV)/developing
# Tests start hundreds of processes. Without compiled modules, each would compile a second's worth of them again.
unexport PYTHONDONTWRITEBYTECODE
# Many tests wait for processes, so each core runs two at once.
JOBS := $(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 1))')
TRIAL := $(BIN)/python -W error -m twisted.trial --random=0 --temp-directory=$(VENV)/trial

.PHONY: help demo test lint check bench lab clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

demo: $(INSTALLED) ## run a registry and two peers here, and fetch a text and a picture
	@$(BIN)/p2pshare demo

test: $(INSTALLED) ## run the tests, in random order, with warnings as errors
	@$(TRIAL) --jobs=$(JOBS) tests

lint: $(LINTING) ## run the linters and check the types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

check: $(DEVELOPING) lint ## run the linters, and the tests with coverage and three times the examples
	@rm -f .coverage .coverage.*
	@P2PSHARE_THOROUGH=1 $(BIN)/python -W error -m coverage run -m twisted.trial --random=0 --temp-directory=$(VENV)/trial tests
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report
	@$(BIN)/python -m tests.fuzz.http

bench: $(INSTALLED) ## run the benchmarks (some minutes; leave the machine alone meanwhile)
	@for each in benchmarks/bench_*.py; do $(BIN)/python $$each || exit 1; done

lab: $(INSTALLED) ## fetch between home networks of all kinds, with the kernel's NAT (some minutes; needs root and Linux)
	@$(BIN)/python -m tests.lab
	@$(TRIAL) tests.lab.scenarios tests.lab.page_scenarios tests.lab.lan

clean: ## remove the virtual environment and the files of the tools
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .coverage*

$(BIN)/python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no module for virtual environments. Install it (Debian, Ubuntu: apt install python3-venv), and try again." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); echo "$(VENV) could not be made, and was removed." >&2; exit 1; }

# An interrupted set-up can leave a virtual environment without pip.
REPAIRED = $(BIN)/python -m pip --version >/dev/null 2>&1 || \
	{ rm -f $(BIN)/python; $(MAKE) --no-print-directory $(BIN)/python; }
# Modules are compiled when they are first imported; compiling all of them takes longer than the rest of the set-up.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e

$(INSTALLED): $(BIN)/python setup.cfg pyproject.toml
	@$(REPAIRED)
	@echo "Installing p2pshare and its dependencies into $(VENV); the first time, this takes about 30 s." >&2
	@$(INSTALL) ".[test]"
	@touch $@

# The linters check the tests too, so this includes what the tests need.
$(LINTING): $(BIN)/python setup.cfg pyproject.toml
	@$(REPAIRED)
	@echo "Installing p2pshare and the linters into $(VENV); the first time, this takes about 30 s." >&2
	@$(INSTALL) ".[lint]"
	@touch $(INSTALLED) $@

$(DEVELOPING): $(BIN)/python setup.cfg pyproject.toml
	@$(REPAIRED)
	@echo "Installing p2pshare and the tools of its developers into $(VENV); the first time, this takes about 40 s." >&2
	@$(INSTALL) ".[dev]"
	@touch $(INSTALLED) $(LINTING) $@
