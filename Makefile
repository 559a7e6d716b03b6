# Two commands: `make demo` and `make test`. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: setup demo test test-slow test-browser test-gpu test-vllm test-oldest mutants lint format clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "zreward needs Python 3.11 or newer, this is %d.%d; set PYTHON=python3.11" % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/zreward demo --out runs/demo $(ARGS)

# Two workers with one thread each: tiny models gain nothing from more. Each begins with half of the tests in their order, so that what a
# module sets up is set up once.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow $(ARGS)

# Debian's Chromium; another system names its own: make test-browser CHROMIUM=/path/to/chromium
CHROMIUM ?= /usr/bin/chromium
test-browser: $(STAMP)
	test -x $(CHROMIUM) || (apt-get update -qq && apt-get install -y -qq chromium)
	CHROMIUM=$(CHROMIUM) $(BIN)/python -m pytest -m browser $(ARGS)

test-gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu $(ARGS)

# vLLM's CPU build, in an environment of its own (constraints-vllm.txt): 3 GB.
VLLM := .venv-vllm
$(VLLM)/.installed: constraints-vllm.txt tests/sampling/declare_operators.py
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(VLLM)/bin/python -m pip install --quiet --no-deps -r constraints-vllm.txt
	$(VLLM)/bin/python tests/sampling/declare_operators.py
	touch $@

test-vllm: $(VLLM)/.installed
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(VLLM)/bin/python -m pytest -m vllm tests/sampling $(ARGS)

# The core's tests on the lowest versions that pyproject.toml allows (constraints-oldest.txt), in an environment of its own. The seeded
# losses are those of the pinned versions.
OLDEST := .venv-oldest
$(OLDEST)/.installed: constraints-oldest.txt pyproject.toml
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(OLDEST)/bin/python -m pip install --quiet -r constraints-oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --no-deps -e .
	touch $@

test-oldest: $(OLDEST)/.installed
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(OLDEST)/bin/python -m pytest tests/models tests/training \
		--ignore tests/training/test_seeded_losses.py $(ARGS)

# Changes one expression of the core modules at a time and runs their tests: docs/testing.md. An hour or two; run it again to continue.
mutants: $(STAMP)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python tests/mutation/run.py $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VLLM) $(OLDEST) runs .pytest_cache .ruff_cache .mypy_cache
