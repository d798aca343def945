# The two commands that matter: `make demo` and `make test`. Each does all set-up itself, from a fresh clone.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
C_SOURCES := $(wildcard mpbroadcast/ring/*.c mpbroadcast/ring/*.h)
PYTEST_ARGS ?=
SUITE_ARGS ?=

.PHONY: demo test test-pythons parity lint sanitize fuzz chaos docs bench clean

demo: $(STAMP)
	$(BIN)/mpbroadcast demo $(ARGS)

# Two folders at a time; with PYTEST_ARGS="tests/ring -x" what these say, by pytest alone.
test: $(STAMP)
	$(BIN)/python -m $(if $(PYTEST_ARGS),pytest $(PYTEST_ARGS),tests.suite $(SUITE_ARGS))

# The wheel, built once, on every Python that is here: the core of the suite. PYTHONS=3.13 and TESTS=tests/ring for some.
test-pythons:
	PYTHON=$(PYTHON) tests/packaging/from_sdist.sh $(TESTS)

# docs/reference/client-go-parity.md from the marks in the tests.
parity: $(STAMP)
	$(BIN)/python -m pytest -q --client-go-parity || [ $$? = 5 ]

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The suite of the ring and the path on an extension with AddressSanitizer and UBSan; the programs for ThreadSanitizer are
# part of `make test` (tests/ring/test_c.py).
ASAN := build/asan
sanitize: $(STAMP)
	rm -rf $(ASAN) && mkdir -p $(ASAN)
	cp -r mpbroadcast tests pyproject.toml $(ASAN)/
	$(CC) -std=c11 -g -O1 -fPIC -shared -fsanitize=address,undefined -fno-sanitize-recover=all -D_GNU_SOURCE \
	  -DPy_LIMITED_API=0x030B0000 -I$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["include"])') \
	  mpbroadcast/ring/*.c -o $(ASAN)/mpbroadcast/ring/_ring.abi3.so
	cd $(ASAN) && LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 $(CURDIR)/$(BIN)/python -m pytest -q -p no:cacheprovider --timeout 300 \
	  tests/ring tests/path/test_mux.py tests/path/test_workers.py --deselect tests/ring/test_c.py \
	  -k "not stop_point and not leak and not footprint and not growth"

# Faults at random for a while; prints what was lost, which must be nothing. See docs/explanation/faults.md.
SECONDS ?= 60
chaos: $(STAMP)
	$(BIN)/python -m bench.chaos --seconds $(SECONDS) $(ARGS)

# Every fuzz target for so many seconds; what they find stays in build/fuzz/. ARGS="ring adopt" runs some. See tests/fuzz.
fuzz: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group fuzz || true
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

# The documentation, strictly: a warning is an error.
docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

# Without arguments every question; ARGS="--only recorder" some, QUICK=1 in under two minutes.
bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	$(BIN)/python -m bench $(if $(QUICK),--quick) $(ARGS)

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
