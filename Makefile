# make demo: distils scikit-learn's digits.  make test: lint, types, tests.  make test-all: the long
# proofs too.  make results: the runs behind RESULTS.md, hours; it resumes, and takes more flags, as
# in make results RESULTS="--data-dir DIR --minutes 60".  All of them make .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo results test test-all test-accelerators lint types check check-all clean

demo: $(INSTALLED)
	$(BIN)/python bin/distill.py --method mtt --dataset digits --overwrite

results: $(INSTALLED)
	$(BIN)/python bin/measure_methods.py $(RESULTS)
	$(BIN)/python bin/results.py docs/results --pictures docs/images --peer docs/results/benchmark.json \
		--measured jdd/report/measured.json

test: lint types check

test-all: lint types check-all

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# What is compiled for TPUs and GPUs that are not there, compared with docs/dev/forecasts; a quarter
# of an hour, and compilers of 5 GB.
test-accelerators: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[test,forecast-tpu,forecast-cuda]'
	$(BIN)/python -m pytest -m accelerators tests/benchmarks/test_stored_forecasts.py

types: $(INSTALLED)
	$(BIN)/mypy

check: $(INSTALLED)
	$(PYTEST) -m "not slow and not accelerators" --durations=15

check-all: $(INSTALLED)
	$(PYTEST) -m "not accelerators" --durations=40

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
