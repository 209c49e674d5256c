# pgfaucet: `make` prints this help. Everything runs in .venv, made on first use; only Python >= 3.11 and pip are needed.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL = $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check
COMPILED := build/compiled
ARGS ?=
FILE ?=
SUITES ?= asyncpg psycopg2 sqlalchemy django psqlregress
SUITES_DIR ?= ../shared/suites

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.dev ## make .venv with everything for development

# A venv without pip of its own (pip >= 22.3 installs into it from outside), so that Debian's python3-venv isn't needed.
$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo 'pgfaucet needs Python 3.11 or newer; name it: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) -e '.[demo,test,dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo ## PostgreSQL, sample shop, proxy, guided tour; stays up (ARGS=--tour: exits after the tour)
	@$(BIN)/pgfaucet demo $(ARGS)

test: $(VENV)/.dev ## every test, with PostgreSQL and real clients (ARGS='-k word' for some)
	$(BIN)/python -m pytest $(ARGS)

# A folder that looks like this one, with pgfaucet as a wheel has it.
$(COMPILED)/.built: $(VENV)/.dev pyproject.toml setup.py $(shell find pgfaucet -name '*.py')
	rm -rf build
	PGFAUCET_COMPILE=1 $(PIP_INSTALL) --no-deps --target $(COMPILED) .
	ln -s $(addprefix $(CURDIR)/,bench docs policies tests tools CHANGELOG.md LICENSE Makefile NOTICE README.md pyproject.toml setup.py) $(COMPILED)
	@touch $@

compiled: $(COMPILED)/.built ## every test against the compiled modules, as they are in a wheel (ARGS='-k word' for some)
	cd $(COMPILED) && PGFAUCET_COMPILED=1 PYTHONPATH=$(abspath $(COMPILED)) $(abspath $(BIN))/python -m pytest $(ARGS)

unit: $(VENV)/.dev ## the fast tests: no PostgreSQL, no sockets
	$(BIN)/python -m pytest tests/unit tests/golden $(ARGS)

fuzz: $(VENV)/.dev ## a minute each of broken start-up packets and broken frames
	PGFAUCET_FUZZ_SECONDS=60 $(BIN)/python -m pytest tests/integration/test_fuzz.py $(ARGS)

chaos: $(VENV)/.dev ## ten minutes of killed backends, lost clients, cancels, reloads and restarts, and 300 kills of the proxy
	PGFAUCET_CHAOS_SECONDS=600 PGFAUCET_CRASHES=150 $(BIN)/python -m pytest tests/chaos $(ARGS)

proof: $(VENV)/.dev ## every attack and differential case, 120,000 random statements (or FILE=x.jsonl: what clients send)
ifneq ($(FILE),)
	PGFAUCET_PROOF_FILE=$(abspath $(FILE)) $(BIN)/python -m pytest tests/proof $(ARGS)
else
	PGFAUCET_FUZZ_STATEMENTS=100000 PGFAUCET_FUZZ_PAIRS=20000 $(BIN)/python -m pytest tests/attacks tests/differential tests/proof $(ARGS)
endif

mutants: $(VENV)/.dev ## mutation testing of what decides (ARGS='--sample 400 --seed 7', ARGS='--module sql.insert')
	$(BIN)/python tools/mutants.py $(ARGS)

suites: $(VENV)/.dev ## drivers' own test suites through the proxy, compared with the server (ARGS='--role grants')
	@failed=0; for suite in $(SUITES); do \
		$(BIN)/python tools/suites.py $(SUITES_DIR)/$$suite.sh $(ARGS) || failed=1; done; exit $$failed

lint: $(VENV)/.dev ## ruff, import rules, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python tools/check_sizes.py

fmt: $(VENV)/.dev ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

docs: $(VENV)/.dev ## check the docs: links, YAML blocks, commands
	$(BIN)/python tools/check_docs.py

check: lint types docs test ## all that CI runs

bench: $(COMPILED)/.built ## what filters cost the server; pgbench and bulk through pgfaucet (interpreted, compiled), PgBouncer, HAProxy; durability (ARGS='--rounds 5')
	$(BIN)/python bench/filters.py
	$(BIN)/python bench/pgbench.py $(ARGS)
	$(BIN)/python bench/pgbench.py --script tpcb $(ARGS)
	$(BIN)/python bench/bulk.py
	$(BIN)/python bench/idle.py
	$(BIN)/python bench/durability.py $(ARGS)

clean: ## remove .venv and what tools left
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info

.PHONY: help setup demo test compiled unit fuzz chaos proof mutants suites lint fmt types docs check bench clean
