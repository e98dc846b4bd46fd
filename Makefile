# `make help` lists the targets. Each makes the environment in .venv first, if need be.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
ARGS ?=
# Processes that `make test` runs side by side: each holds more than a GiB.
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format train report tensorboard docs wheel clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; run make PYTHON=<a newer one>"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo 'installing into .venv (5.9 GB, a few minutes)'
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(READY)  ## the study in miniature on synthetic data, and its report (about 4 minutes)
	rm -rf outputs/demo
	$(BIN)/python -m segmentation.train --multirun experiment=demo hydra.sweep.dir=outputs/demo
	$(BIN)/python -m segmentation.report outputs/demo

test: $(READY)  ## the fast tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-all: $(READY)  ## every test, the slow ones included
	$(BIN)/python -m pytest -m 'slow or not slow' $(ARGS)

lint: $(READY)  ## formatting, ruff and mypy --strict
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)  ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

train: $(READY)  ## one training; settings by ARGS="data=camvid data.root=..."
	$(BIN)/python -m segmentation.train $(ARGS)

report: $(READY)  ## the report of a run or sweep: make report ARGS=outputs/demo
	$(BIN)/python -m segmentation.report $(ARGS)

tensorboard: $(READY)  ## everything in outputs/, on http://127.0.0.1:6006
	$(BIN)/tensorboard --logdir outputs --host 127.0.0.1 --load_fast=false --samples_per_plugin images=100

docs: $(READY)  ## docs/reference, from the YAML files and docstrings
	$(BIN)/python docs/make_reference.py

wheel: $(READY)  ## the installable package, in dist/
	$(BIN)/python -m build --wheel

clean:  ## the environment and the caches; outputs/ stays
	rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache
