# A fresh machine needs `make demo` and `make test`; `make check` is what a change must pass besides.
# The tests take every core, up to four, and one thread each.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
EXTRAS := train,export,ready,offline,camera,mqtt,openvino,web

.PHONY: demo test check format clean

demo: $(STAMP)
	$(BIN)/sp-edge demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("sp-edge needs Python 3.10 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --progress-bar off --editable ".[$(EXTRAS)]" --group dev
	touch $@

clean:
	rm -rf $(VENV) demo runs
