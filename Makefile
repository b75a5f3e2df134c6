# Every target makes the environment by itself. Options are passed on: make train ARGS="oscillation=ones seed=2"
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# types and shapes of every call of a function of lcsm; takes some three quarters more time
CHECKED := --jaxtyping-packages=lcsm,tests.check
NUMERICAL := -m 'numerical and not slow and not gpu and not compile'

.PHONY: train test slow compile numerical faults lint format docs bench clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

train: $(STAMP)
	$(BIN)/python train.py $(ARGS)

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto $(CHECKED) $(ARGS)

slow: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m slow $(ARGS)

compile: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m compile $(ARGS)

# counts are settable: FAULTS_KILLS=100 FAULTS_DRAWN=300 FAULTS_SEED=7 make faults
faults: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m faults tests/faults $(ARGS)

# What rounds otherwise on other machines, as they would: processors without and with AVX2.
numerical: $(STAMP)
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE $(BIN)/python -m pytest -n auto $(NUMERICAL) $(ARGS)
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 $(BIN)/python -m pytest -n auto $(NUMERICAL) $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/python -m tests.golden.presets
	$(BIN)/lcsm show --all --format markdown > docs/models.md.new
	mv docs/models.md.new docs/models.md
	$(BIN)/lcsm show --options --format markdown > docs/options.md.new
	mv docs/options.md.new docs/options.md

bench: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/chunk.py $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/scans.py $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/delta.py $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
