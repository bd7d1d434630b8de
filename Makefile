# Backdoor bench. `make` alone lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
# `dvc` starts each stage with the first `python` of PATH: let it be the one of the environment.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

PLUGINS := $(sort $(wildcard plugins/*/pyproject.toml))
STAMP := $(VENV)/.installed

.PHONY: all privacy sweep test install lint report clean help

all: install ## Install, then run the study of params.yaml: cohort to report
	@[ -d .git ] || git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true
	dvc repro report
	@echo
	@echo "Report: run/report.html"

privacy: install ## Train language models on notes and tell what they leak; the report shows it too, where there is one
	@[ -d .git ] || git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true
	dvc repro leakage
	@[ ! -f run/report.html ] || dvc repro --single-item --force report
	@echo
	@echo "Report: run/notes/leakage/REPORT.md"

sweep: install ## Run the grid of studies under `sweep` in params.yaml; goes on where it was stopped
	@[ -d .git ] || git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true
	dvc repro benchmarks/dvc.yaml

test: install ## Run the test suite (real-data tests need BACKDOOR_TEST_DATA)
	pytest --numprocesses 2 --dist loadfile

install: $(STAMP) ## Make .venv with the core, the bundled plugins and the test tools

$(STAMP): pyproject.toml constraints.txt $(PLUGINS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or later is needed; this is " + sys.version.split()[0] + ". Pass another with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --disable-pip-version-check -c constraints.txt --editable ".[test]" $(foreach p,$(PLUGINS),--editable ./$(dir $(p)))
	@touch $@

lint: install ## Check style, types and the floors between packages
	ruff check .
	ruff format --check .
	mypy
	lint-imports

report: install ## Make run/report.html anew
	dvc repro --single-item --force report

clean: ## Remove what the pipeline made (the DVC cache, sweeps and .venv stay)
	rm -rf data/cohort data/splits.json data/text_embeddings run plugins.lock.json dvc_plots

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
