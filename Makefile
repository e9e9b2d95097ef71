# From a fresh machine with Python 3.10 or newer: `make demo` or `make test`. Both make .venv first.
# Another interpreter: make test PYTHON=python3.12. Another number of test processes: make test JOBS=8.

PYTHON ?= python3
JOBS ?= 2

PY := .venv/bin/python
READY := .venv/ready
INSTALL := $(PY) -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test matrix lint venv clean
.DEFAULT_GOAL := test

demo: $(READY)
	OMP_NUM_THREADS=1 $(PY) benchmarks/demo.py --output output

test: $(READY)
	$(PY) -m ruff check .
	OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses $(JOBS) --dist loadfile

# Every torch that users have, each in an environment of its own: 5 to 7 GB at a time, an hour in
# all. Fewer: make matrix VERSIONS="2.8.0 2.11.0". What the registry lacks is said in the table.
matrix: $(READY)
	$(PY) benchmarks/torch_versions.py --jobs $(JOBS) $(VERSIONS)

# Type checking imports the pack under its own name, which this folder need not have.
lint: $(READY)
	mkdir -p .venv/alias && ln -sfn ../.. .venv/alias/undegrade
	$(PY) -m ruff check .
	$(PY) -m pyright

venv: $(READY)

# torch comes first, so that no other package chooses its build.
$(READY): requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; name one with PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(INSTALL) torch
	$(INSTALL) -r requirements.txt -r requirements-dev.txt
	touch $(READY)

clean:
	rm -rf .venv .matrix output build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
