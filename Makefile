# make demo   converts a checkpoint that Lua Torch7 wrote and shows the result
# make test   runs the tests
# make lint   formatting, style, types
# make bench  benchmarks, as ratios to plain PyTorch and other tools
# make docs   writes docs/classes.md, the table of all classes
#
# Each sets up a virtual environment in .venv first.  PIP_FLAGS goes to pip, for example to get PyTorch's smaller CPU
# build: make test PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := fixtures/golden/traces/songs_batch.t7

.PHONY: demo test lint bench docs clean

demo: $(VENV)/.installed
	rm -rf demo && mkdir demo
	$(BIN)/t7convert $(DEMO) -o demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.installed-test
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

docs: $(VENV)/.installed
	$(BIN)/python docs/classes.py

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(PIP_FLAGS) --editable .
	touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(BIN)/pip install --quiet $(PIP_FLAGS) --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
