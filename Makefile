# The commands of a checkout; each sets up .venv when it has to, and only then.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.nnunet_cascade_setup
# "test" instead of "dev" installs no optional library (make EXTRAS=test test)
EXTRAS ?= dev
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
# "uv" takes a third of the time, but does not read the settings of pip, such as the address of a mirror
INSTALLER ?= pip
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11) and "found Python %s, expected 3.11 or newer: remove .venv if it is older, then make PYTHON=python3.12" % sys.version.split()[0])'

# nnU-Net would start eight workers of about 1 GB each
export nnUNet_def_n_proc ?= 2
export nnUNet_n_proc_DA ?= 2
# Large pages: convolutions on processors take half the time (docs/performance.md)
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

# Two halves of the tests, side by side: those with a trained cascade, which is trained once for them, and all others.
# Networks and the plug-in go with the first, so that both take the same time.
# Each has one thread: on two processors, threads of one half would wait for those of the other most of the time.
WITH_CASCADE := $(addprefix tests/,api bundles cohort docs networks plugin prediction scans settings training workflows)

# Every Python that pyproject.toml names: the newest versions of all dependencies must exist together for it.
PYTHONS := 3.11 3.12 3.13 3.14
RESOLVE := uv pip compile --quiet --all-extras pyproject.toml
LOWEST := $(RESOLVE) --python-version $(firstword $(PYTHONS)) --resolution lowest-direct
FLOORS := .venv-floors
SCHEMA := $(BIN)/check-jsonschema --builtin-schema vendor

.PHONY: demo test test-with-cascade test-others test-long test-floors lint docs reference
.PHONY: build-check workflows-check resolve resolve-lowest $(PYTHONS:%=resolve-%)

demo: $(SETUP)
	$(BIN)/nnc-demo

test: $(SETUP)
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(MAKE) --keep-going --jobs=2 test-others test-with-cascade

test-others: $(SETUP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WITH_CASCADE:%=--ignore=%)

# What it prints comes when it is through.
test-with-cascade: $(SETUP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WITH_CASCADE) > $(VENV)/tests.log 2>&1; code=$$?; cat $(VENV)/tests.log; exit $$code
endif

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python benchmarks/house.py --structure
	$(BIN)/pyright

# Kills, long chains and real services: run it before a release.
test-long: $(SETUP)
	$(BIN)/python -m pytest -m long $(ARGS)

# The quick tests with the oldest versions that pyproject.toml allows, in an environment of their own.
# Libraries are compiled at once: old ones warn when they are, and the tests take warnings for errors.
test-floors:
	$(PYTHON) -m venv $(FLOORS)
	$(FLOORS)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(FLOORS)/bin/$(LOWEST) --output-file $(FLOORS)/requirements.txt > /dev/null
	$(FLOORS)/bin/uv pip install --quiet --compile-bytecode --python $(FLOORS) --requirement $(FLOORS)/requirements.txt
	$(FLOORS)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(FLOORS)/bin/python -m pytest -m "not slow and not long" $(ARGS)

# Versions are only looked up: nothing is installed.
resolve: $(SETUP)
	$(MAKE) --no-print-directory --jobs=5 resolve-lowest $(PYTHONS:%=resolve-%)

$(PYTHONS:%=resolve-%): resolve-%:
	@$(BIN)/$(RESOLVE) --python-version $* > /dev/null && echo "dependencies resolve for Python $*"

resolve-lowest:
	@$(BIN)/$(LOWEST) > /dev/null && echo "dependencies resolve to the lowest declared versions"

# The wheel is installed without its dependencies: importing the package needs none of them.
build-check: $(SETUP)
	rm -rf dist build/wheel
	$(BIN)/python -m build --no-isolation > /dev/null
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet --disable-pip-version-check --no-deps dist/*.whl
	cd build/wheel && bin/python -c 'import nnunet_cascade as nnc; from importlib.resources import files; assert files(nnc).joinpath("py.typed").is_file(), "the wheel holds no py.typed"'

# The files by which a forge runs this project.
workflows-check: $(SETUP)
	$(SCHEMA).github-workflows .github/workflows/*.yml
	$(SCHEMA).dependabot .github/dependabot.yml
	$(SCHEMA).github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA).github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/idea.yml
	$(SCHEMA).citation-file-format CITATION.cff
	$(BIN)/zizmor --offline --quiet .github

# Warnings are errors: a link between pages that leads nowhere is one.
docs: $(SETUP)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

# The pages of docs/reference that are written from the code; a test says when they are old.
reference: $(SETUP)
	$(BIN)/python docs/make_reference.py

# The start-up files are copied on installation, editable or not.
$(SETUP): pyproject.toml startup/pth.txt startup/start.txt | $(BIN)/python
	@$(BIN)/python $(IS_NEW_ENOUGH)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
ifeq ($(INSTALLER),uv)
	$(PIP) install uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(VENV) --editable '.[$(EXTRAS)]'
else
	$(PIP) install --editable '.[$(EXTRAS)]'
endif
	@touch $@

$(BIN)/python:
	@$(PYTHON) $(IS_NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)
