# Two commands for everyone: `make demo` and `make test`. Each makes .venv when it is missing.
PYTHON ?= python3
BIN := .venv/bin
# Two tests more at once than there are cores, for half of the time a test waits for a process; at most six.
# `.venv/bin/pytest tests/some_test.py` runs one file as ever.
SIDE_BY_SIDE := -n $(shell $(PYTHON) -c "import os; print(min(os.cpu_count() + 2, 6))") --dist worksteal
# Compiled once, on one core while mypy is on the other: else every test worker, and every process that a test starts,
# would do it for itself.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check compiled format clean

demo: .venv/run.stamp
	$(BIN)/dicomnode demo

test: .venv/test.stamp
	@$(MAKE) --no-print-directory --jobs=2 check compiled
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

check: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

compiled: .venv/test.stamp
	@$(BIN)/python -m pytest --collect-only -q > .venv/collected || { tail -n 50 .venv/collected; exit 1; }

format: .venv/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/run.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/test.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@ .venv/run.stamp

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache demo-output
