# The commands of a checkout; each sets up .venv when it has to, and only then.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.nnunet_cascade_setup
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 10) and "found Python %s, expected 3.10 or newer: remove .venv if it is older, then make PYTHON=python3.11" % sys.version.split()[0])'

# nnU-Net would start eight workers of about 1 GB each
export nnUNet_def_n_proc ?= 2
export nnUNet_n_proc_DA ?= 2
# Large pages: convolutions on processors take half the time (docs/performance.md)
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

# Trainings of tiny networks start many programs and leave a core idle: they are tested beside all else.
TRAININGS := tests/reproduction tests/trainers

.PHONY: demo test test-trainings test-others lint docs

demo: $(SETUP)
	$(BIN)/nnc-demo

test: $(SETUP)
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(MAKE) --keep-going --jobs=2 test-others test-trainings

test-others: $(SETUP)
	$(BIN)/python -m pytest $(TRAININGS:%=--ignore=%)

# What it prints comes when it is through.
test-trainings: $(SETUP)
	@$(BIN)/python -m pytest $(TRAININGS) > $(VENV)/trainings.log 2>&1; code=$$?; cat $(VENV)/trainings.log; exit $$code
endif

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright

# Warnings are errors: a link between pages that leads nowhere is one.
docs: $(SETUP)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

# The start-up files are copied on installation, editable or not.
$(SETUP): pyproject.toml startup/pth.txt startup/start.txt | $(BIN)/python
	@$(BIN)/python $(IS_NEW_ENOUGH)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	$(PIP) install --editable '.[dev]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) $(IS_NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)
