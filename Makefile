# Everything that a reader runs. Each target does its own set-up: a virtual environment in .venv and, where it is missing,
# what is needed from Debian's packages. Nothing asks a question.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export SPBROKER_DESCRIPTORS ?= $(abspath $(firstword $(wildcard ../shared/descriptors) $(wildcard shared/descriptors)))

.PHONY: setup tools demo test chaos lint bench proto clean help

help:
	@echo "make demo    one order, four providers, packets that arrive   [NSD=FILE] [KEEP=1] [DRIVER=simulated]"
	@echo "make test    every test                                       make lint   style, types, import rules, protobuf"
	@echo "make chaos   every crash point, lines that break, many kills, and a report (an hour or two)"
	@echo "make bench   the benchmarks, in short                         make clean  take away what was installed here"

setup: $(STAMP)

$(STAMP): pyproject.toml
	@scripts/ensure-python "$(PYTHON)"
	@test -x $(BIN)/python || { echo "Making a virtual environment in $(VENV)"; "$(PYTHON)" -m venv $(VENV); }
	@echo "Installing spbroker and what it needs into $(VENV) (a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[linux,postgres,dev]'
	@touch $(STAMP)

tools:
	@scripts/ensure-tools

demo: setup
	@if [ "$(DRIVER)" != simulated ]; then scripts/ensure-tools; fi
	@$(BIN)/spbroker demo $(if $(NSD),--nsd '$(NSD)') $(if $(KEEP),--keep) $(if $(DRIVER),--driver '$(DRIVER)')

test: setup
	@scripts/ensure-tools || { [ -z "$$CI" ] && echo "Going on without packet tests."; }
	@scripts/ensure-postgres || { [ -z "$$CI" ] && echo "Going on without tests on PostgreSQL."; }
	@folder=$$(scripts/test-folder) && trap 'rm -rf "$$folder"' EXIT && \
		PYTEST_DEBUG_TEMPROOT="$$folder" $(BIN)/python -m pytest -n $$(( $$(nproc) * 3 / 2 )) --dist worksteal $(ARGS)

chaos: setup
	@rm -rf .chaos && mkdir .chaos
	@folder=$$(scripts/test-folder) && trap 'rm -rf "$$folder"' EXIT && \
		PYTEST_DEBUG_TEMPROOT="$$folder" SPBROKER_CHAOS_REPORT=$(CURDIR)/.chaos SPBROKER_CRASH_POINTS=all \
		SPBROKER_KILLED_POINTS=all SPBROKER_SCHEDULES=2000 SPBROKER_WEATHERS=48 SPBROKER_KILLS=200 \
		$(BIN)/python -m pytest -n $$(( $$(nproc) * 5 / 2 )) --dist worksteal tests/chaos tests/crash tests/planted $(ARGS); \
		ended=$$?; $(BIN)/python -m tests.support.chaos_report .chaos && exit $$ended

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/python proto/generate.py --check

bench: setup
	@for program in benchmarks/*.py; do $(BIN)/python $$program --quick || exit 1; done

proto: setup
	$(BIN)/python proto/generate.py

clean:
	rm -rf $(VENV) .demo .chaos .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
