# make book    build the site into _build/html
# make test    everything that must hold before a change is merged
# make check   that, and what takes longer: slow tests, an audit of every page, faults that the tests must find
# make pdf     the whole book as one PDF, _build/painters.pdf
# make release  site, PDF, course, wheel and sdist into dist/, with SHA256SUMS
# make course  editions, a site without solutions, slides, figures and a cartridge, into _build/course
#
# Both create .venv on their first call. Options:
#   PYTHON=python3.12    the interpreter to create it with (3.11 or newer)
#   TORCH_INDEX=URL      an extra package index for torch, e.g. https://download.pytorch.org/whl/cpu

SHELL := /bin/bash
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: book pdf release course test check mutants lint export serve clean help

help:
	@sed -n '1,/^$$/s/^# //p' Makefile

book: $(STAMP)
	@$(BIN)/python tools/build.py

# The whole site on paper: _build/painters.pdf. Needs Chromium.
pdf: book
	@$(BIN)/python tools/pdf.py

# DRY_RUN=1 builds while the address is a placeholder.
release: $(STAMP)
	@$(BIN)/python tools/release.py $(if $(DRY_RUN),--dry-run)

course: $(STAMP)
	@$(BIN)/python tools/course.py --site

test: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash tools/test.sh

lint: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash tools/test.sh lint

# Faults given to the packages, one at a time: how many do the tests find? It takes a while; ended, it goes on from there.
mutants: $(STAMP)
	@$(BIN)/python tools/mutants.py --count 100 --seed 0

# Before a release: make test, slower tests, an audit of every page, and 40 other faults in each package.
check: test
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash tools/test.sh check

# Write book/*.ipynb anew from book/*.md.
export: $(STAMP)
	@$(BIN)/python tools/export.py

serve: book
	@echo "The book is at http://127.0.0.1:8000; stop with Ctrl-C."
	@$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

# Removes what was built; outputs of cells stay in .cache, the environment in .venv.
clean:
	rm -rf _build

$(STAMP): requirements.txt pyproject.toml
	@command -v "$(PYTHON)" > /dev/null || \
	  { echo "$(PYTHON) was not found; name a Python of 3.11 or newer with PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11; name a newer one with PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2> /dev/null || \
	  { echo "$(PYTHON) lacks its venv module; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing the pinned requirements into $(VENV); the first time this downloads torch."
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(INDEX) -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps galaxygrad==0.2.0 2> /dev/null || \
	  echo "galaxygrad, 56 MB with the weights of the galaxies, was not installed: what needs it is skipped by name."
	@touch $(STAMP)
