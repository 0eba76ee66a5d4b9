# Set-up of a fresh machine: Python 3.11 or 3.12 and make, nothing else.
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin
WORKERS ?= 2
DECIDING := fruits_cli/cluster/plan.py,fruits_cli/cluster/nodes.py,fruits_cli/cluster/cost.py,fruits_cli/cluster/diagnosis.py,fruits_cli/cluster/ending.py,fruits_cli/estimate/calculation.py,fruits_cli/cloud/policies.py,spark_job/pca.py,spark_job/images.py,spark_job/chunks.py

.PHONY: demo test test-all coverage check bench locks clean

demo: .venv/run.stamp
	$(BIN)/fruits rehearse --sample
	@echo "Command by command, with JupyterHub and the History Server in your browser:"
	@echo "  $(BIN)/python -m pip install -c constraints.txt -e '.[hub]'"
	@echo "  $(BIN)/fruits rehearse --tour"

# All that is quick, with one run, one resume and one rehearsal.
test: .venv/dev.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not slow"

test-all: .venv/dev.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

# Branches of the packages that decide.
coverage: .venv/dev.stamp
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q tests/unit tests/integration/spark_job/test_pca.py
	$(BIN)/coverage report --include="$(DECIDING)"

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
	@echo "Installing Spark, OpenVINO, TensorFlow and a Java into .venv: 2 GB, some minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ .venv/run.stamp
