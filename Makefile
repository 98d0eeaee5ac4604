# make demo: distils scikit-learn's digits.  make test: lint, types, tests.  make test-all: the long
# proofs too.  make docs: the documentation as a site.  make results: the runs behind RESULTS.md,
# hours; it resumes, and takes more flags, as in make results RESULTS="--data-dir DIR --minutes 60".
# make fuzz: damaged files for every reader (FUZZ="idx --seed 7").  make kill: 50 kills of runs and
# experts, resumed and compared, three minutes (KILL="--kills N --seed N").  make test-pages:
# reports in Chromium, which is to be installed.  make notebooks: runs those of the documentation and
# stores what they show.  All of these make .venv first.
# make accelerator ACCELERATOR="--data-dir DIR": measures a GPU or TPU with the PYTHON that sees it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: accelerator demo docs notebooks results test test-accelerators test-all test-pages lint types check \
	check-all fuzz kill clean

demo: $(INSTALLED)
	$(BIN)/python bin/distill.py --method mtt --dataset digits --decoder dct --coefficients 32 --overwrite

accelerator:
	$(PYTHON) bin/measure_accelerator.py $(ACCELERATOR)

results: $(INSTALLED)
	$(BIN)/python bin/measure_methods.py $(RESULTS)
	$(BIN)/python bin/results.py docs/results --pictures docs/images --peer docs/results/benchmark.json \
		--measured jdd/report/measured.json

# Side by side: mypy keeps one core busy, and the tests two.
test: $(INSTALLED)
	$(MAKE) --no-print-directory -j 3 lint types check

test-all: lint types check-all

docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/mkdocs build --strict

notebooks: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/jupyter nbconvert --to notebook --inplace --execute \
		--ExecutePreprocessor.record_timing=False docs/notebooks/*.ipynb

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
	$(PYTEST) -m "not slow and not pages and not accelerators" --durations=15

test-pages: $(INSTALLED)
	$(BIN)/python -m pytest -m pages

check-all: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[test,export,torch,docs]'
	$(PYTEST) -m "not accelerators" --durations=40

fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz $(FUZZ)

kill: $(INSTALLED)
	$(BIN)/python -m tests.kill $(KILL)

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
