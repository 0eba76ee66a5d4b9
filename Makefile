# Set-up of a fresh machine: Python 3.11 or 3.12 and make, nothing else.
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin
WORKERS ?= 2

.PHONY: demo test check bench locks clean

demo: .venv/run.stamp
	$(BIN)/fruits rehearse --sample

test: .venv/dev.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/generate_docs.py --check
	$(BIN)/python .ci/locks.py --check

bench: .venv/dev.stamp
	$(BIN)/python -m benchmarks

locks: .venv/dev.stamp
	$(BIN)/python .ci/locks.py

clean:
	rm -rf .venv

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "fruits needs Python 3.11 or 3.12 on PATH, or make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/run.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ .venv/run.stamp
