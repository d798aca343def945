# The two commands that matter: `make demo` and `make test`. Each does all set-up itself, from a fresh clone.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
C_SOURCES := $(wildcard mpbroadcast/ring/*.c mpbroadcast/ring/*.h)
PYTEST_ARGS ?=

.PHONY: demo test parity lint bench clean

demo: $(STAMP)
	$(BIN)/mpbroadcast demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# docs/reference/client-go-parity.md from the marks in the tests.
parity: $(STAMP)
	$(BIN)/python -m pytest -q --client-go-parity || [ $$? = 5 ]

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(STAMP)
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find mpbroadcast -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("mpbroadcast needs Python 3.11 or later; PYTHON=... chooses another one") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'

# Installed in place, so that an edit is live; the extension is built anew when its C changes.
$(STAMP): pyproject.toml $(C_SOURCES) | $(BIN)/python
	rm -rf build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group test --group lint --editable '.[all]'
	touch $@
