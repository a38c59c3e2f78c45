# Two commands matter: `make run` opens the first notebook, `make test` runs every check there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
PORT ?=
ARGS ?=

PY := $(VENV)/bin/python
STAMPS := $(VENV)/stamps
# Pinned versions for developers; the ranges that users get stand in pyproject.toml.
LOCK := $(wildcard requirements-dev.lock)
PINNED := $(if $(LOCK),-c $(LOCK))
# The newest Python of the machine that is new enough, `python3` first.
BASE_PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
IPYKERNEL6 := build/ipykernel6/stamp
MARIMO := build/marimo/stamp
WIDGET := webchat_widget/static/widget.js
JS_SOURCES := $(wildcard js/*.json js/*.mjs js/*.ts) $(shell find js/src -type f 2>/dev/null)

# Jupyter refuses root unless told, and would look for a browser on a machine that has no screen.
JUPYTER_FLAGS := $(if $(PORT),--port=$(PORT)) \
	$(if $(filter 0,$(shell id -u)),--allow-root) \
	$(if $(filter Darwin,$(shell uname -s)),,$(if $(DISPLAY)$(WAYLAND_DISPLAY),,--no-browser))

.PHONY: help run build test bench soak lint format floors shots clean need-python need-node

help:
	@echo 'make run     open notebooks/01_hello.ipynb in JupyterLab (PORT=8899, ARGS="--no-browser ...")'
	@echo 'make test    lint, types, unit tests, notebooks and browser tests; ends in one line that counts them'
	@echo 'make bench   measure what a token costs'
	@echo 'make soak    hurt the chat for hours: kills, full disks, cut lines (ARGS="kills --n 20" for less)'
	@echo 'make lint    ruff, mypy, biome and tsc only'
	@echo 'make format  let ruff and biome rewrite what they can'
	@echo 'make floors  the unit tests, on the oldest versions that are allowed'
	@echo 'make shots   take pictures of every state into build/shots'
	@echo 'make clean   remove all that was built or installed'

run: $(STAMPS)/run $(WIDGET)
	$(VENV)/bin/jupyter lab notebooks --LabApp.default_url=/lab/tree/01_hello.ipynb $(JUPYTER_FLAGS) $(ARGS)

build: $(WIDGET)

test: $(STAMPS)/test $(WIDGET) $(IPYKERNEL6) $(MARIMO)
	@$(PY) tests/support/stages.py

bench: $(STAMPS)/test $(WIDGET)
	$(PY) -m tests.bench $(ARGS)

soak: $(STAMPS)/test $(WIDGET)
	$(PY) -m tests.soak --long $(ARGS)

lint: $(STAMPS)/test $(STAMPS)/npm
	@$(PY) tests/support/stages.py --only lint types

format: $(STAMPS)/test $(STAMPS)/npm
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	cd js && npm run --silent format

# The oldest versions that pyproject.toml allows, in an environment of their own.
floors: $(WIDGET)
	$(BASE_PYTHON) -m venv build/floors
	build/floors/bin/python -m pip install --quiet '.[test]' \
		$$(sed -n '/^dependencies/,/^]/s/.*"\(.*\)>=\(.*\)".*/\1==\2/p' pyproject.toml)
	build/floors/bin/python -m pytest tests --ignore=tests/e2e --ignore=tests/test_packaging.py -q $(ARGS)

shots: $(STAMPS)/test $(WIDGET) $(IPYKERNEL6)
	$(PY) -m tests.e2e.shots build/shots $(ARGS)

clean:
	rm -rf $(VENV) js/node_modules webchat_widget/static build dist test-results
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis

# -- what the commands stand on; each stamp is newer than what it was made from -------------------------------

need-python:
	@test -n "$(BASE_PYTHON)" || { echo 'This needs Python 3.11 or newer: install it, or say BASE_PYTHON=/path/to/python3.' >&2; exit 1; }

need-node:
	@v=$$(node --version 2>/dev/null) && command -v npm >/dev/null || { echo 'This needs Node.js 20 or newer, with npm, to build the front-end: https://nodejs.org' >&2; exit 1; }; \
	m=$${v#v}; test "$${m%%.*}" -ge 20 || { echo "This needs Node.js 20 or newer to build the front-end; this one is $$v." >&2; exit 1; }

$(STAMPS)/venv: | need-python
	@$(BASE_PYTHON) -m venv $(VENV) || { echo 'Python could not make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/npm: js/package.json js/package-lock.json | need-node $(STAMPS)/venv
	cd js && npm ci --no-audit --no-fund
	@touch $@

$(WIDGET): $(JS_SOURCES) $(STAMPS)/npm
	cd js && npm run --silent build
	@touch $@

# Installed in place: what the sources say counts at once, only the metadata needs another install.
$(STAMPS)/run: pyproject.toml $(LOCK) | $(STAMPS)/venv $(WIDGET)
	$(PY) -m pip install --quiet $(PINNED) -e . jupyterlab
	@touch $@

$(STAMPS)/test: pyproject.toml $(LOCK) | $(STAMPS)/venv $(WIDGET)
	$(PY) -m pip install --quiet $(PINNED) -e '.[test]'
	$(PY) -m tests.support.debian
	@touch $@ $(STAMPS)/run

# The kernel that many still have, to lay over the environment of the tests: it has no subshells.
$(IPYKERNEL6): | $(STAMPS)/venv
	rm -rf $(@D)
	$(PY) -m pip install --quiet --target $(@D) --no-deps ipykernel==6.31.0 nest-asyncio==1.6.0
	@touch $@

# Another notebook that shows anywidgets, apart from the environment of the tests: it brings a server of its own.
$(MARIMO): | $(STAMPS)/venv
	rm -rf $(@D)
	$(PY) -m pip install --quiet --target $(@D) marimo==0.25.2
	@touch $@
