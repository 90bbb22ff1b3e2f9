# Thin: pip does the work. Every target sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test setup lint slow clean

run: setup
	$(BIN)/bench run --method all

test: setup
	$(BIN)/pytest -m "not slow"

slow: setup
	$(BIN)/pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

setup: .venv/.done

# The stamp is written last: an interrupted set-up is done again.
.venv/.done: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; make PYTHON=python3.12 names another")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf .venv
