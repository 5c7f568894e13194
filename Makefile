# Everything a user or a developer runs. `make bench` and `make test` need nothing but Python >= 3.11 and make.
# PYTHON=python3.12   the interpreter that .venv is made with
# PIP_ARGS="..."      options for pip install, for instance the index of PyTorch's CPU builds
# ARGS="..."          options for the command that a target runs: make bench ARGS="--methods transformer_xl --jobs 2"

PYTHON ?= python3
PIP_ARGS ?=
ARGS ?=
STUDY ?= quick

VENV := .venv
PY := $(VENV)/bin/python
# Each stamp is newer than its lock once that lock is installed, so set-up is repeated only when the lock changes.
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup bench bench-enwik8 bench-object_collision bench-long_copy bench-instruction bench-corridor bench-portal bench-document_labels bench-small bench-paper data sweep report plots wandb-sync test test-all lint typecheck lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9_-]+:.*## / {printf "  %-23s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(RUN)  ## make .venv and install requirements.lock into it

bench: $(RUN)  ## compare all methods on all tasks, preset quick, and write the report
	$(PY) -m bench run --preset quick $(ARGS)

bench-enwik8: $(RUN)  ## the same on enwik8 alone
	$(PY) -m bench run --preset quick --tasks enwik8 $(ARGS)

bench-object_collision: $(RUN)  ## the same on object_collision alone
	$(PY) -m bench run --preset quick --tasks object_collision $(ARGS)

bench-long_copy: $(RUN)  ## the same on long_copy alone
	$(PY) -m bench run --preset quick --tasks long_copy $(ARGS)

bench-instruction: $(RUN)  ## the same on instruction alone
	$(PY) -m bench run --preset quick --tasks instruction $(ARGS)

bench-corridor: $(RUN)  ## the same on corridor alone
	$(PY) -m bench run --preset quick --tasks corridor $(ARGS)

bench-portal: $(RUN)  ## the same on portal alone
	$(PY) -m bench run --preset quick --tasks portal $(ARGS)

bench-document_labels: $(RUN)  ## the same on document_labels alone
	$(PY) -m bench run --preset quick --tasks document_labels $(ARGS)

bench-small: $(RUN)  ## preset small: learnable on two CPU cores, three seeds
	$(PY) -m bench run --preset small $(ARGS)

bench-paper: $(RUN)  ## preset paper: the published scale, for a GPU
	$(PY) -m bench run --preset paper $(ARGS)

data: $(RUN)  ## download the whole of enwik8 and verify it
	$(PY) -m bench data $(ARGS)

sweep: $(RUN)  ## search learning rate and span of Expire-Span on enwik8-4M, four trials
	$(PY) -m sweeps run sweeps/spaces/quick.yaml --trials 4 $(ARGS)

report: $(RUN)  ## build the report of runs/STUDY again (STUDY=quick)
	$(PY) -m reports build runs/$(STUDY) $(ARGS)

plots: $(RUN)  ## draw the figures of runs/STUDY again (STUDY=quick), and nothing else of its report
	$(PY) -m reports build runs/$(STUDY) --figures $(ARGS)

wandb-sync: $(RUN)  ## upload the W&B runs of runs/STUDY (STUDY=quick), for five minutes at most
	$(PY) -m bench wandb runs/$(STUDY) --sync $(ARGS)

test: $(DEV)  ## the default tests, on a CPU
	$(PY) -m pytest $(ARGS)

test-all: $(DEV)  ## the slow tests too
	$(PY) -m pytest -m "" $(ARGS)

lint: $(DEV)  ## ruff
	$(PY) -m ruff check .

typecheck: $(DEV)  ## mypy
	$(PY) -m mypy

lock: $(VENV)/pyvenv.cfg  ## resolve pyproject.toml anew into requirements.lock and requirements-dev.lock
	$(PY) .ci/lock.py

clean:  ## remove .venv and caches; results in runs/ and data/ stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Spanbench needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another with: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; }

$(RUN): requirements.lock | $(VENV)/pyvenv.cfg
	$(PY) -m pip install $(PIP_ARGS) -r requirements.lock
	@touch $@

$(DEV): requirements-dev.lock $(RUN)
	$(PY) -m pip install $(PIP_ARGS) -r requirements-dev.lock
	@touch $@
