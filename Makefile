# Two commands: `make demo` and `make test`; `make docs` builds the site alone,
# `make coverage` measures what the tests run, `make bench` speed and memory (ten minutes and more). All set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: bench coverage demo docs test install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/workbench demo

# Warnings, such as a link or a name in a docstring that leads nowhere, are errors. The site: build/docs/index.html.
docs: install
	$(BIN)/mkdocs build --strict

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry drivers sim proxy predictor workbench
	$(BIN)/deptry tests tests/*/ benchmarks --ignore DEP002,DEP004
	$(BIN)/mkdocs build --strict
	$(BIN)/python -m pytest -n 3 --dist worksteal

# The share of lines that the tests run. Tracing costs 40 % more computing time, so it is not part of `make test`.
coverage: install
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered

# Writes docs/results/bench.md and its JSON, and says what got worse since those that stand there.
bench: install
	$(BIN)/python benchmarks/bench.py

clean:
	rm -rf $(VENV) demo lab build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
