# Everything runs in a virtual environment that the first target makes. PYTHON chooses the interpreter, 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
STORE ?= data/quickstart
RUN ?= runs/quickstart
TRAIN_FLAGS ?=

python := $(VENV)/bin/python

# What pytest is told besides: make test TESTS="tests/text -k unigram".
TESTS ?=

# What `make test-notebooks` runs; a pattern chooses some: NOTEBOOKS='0[13]_*'.
NOTEBOOK_LANGUAGE ?= es
NOTEBOOKS ?= *

.PHONY: help quickstart quickstart-long test test-long test-notebooks parity lint docs docs-test wheel-test clean

help:
	@echo "make quickstart   train a small BERT on this machine and fill masks with it"
	@echo "make quickstart-long  the same from random attention, as BERT begins, in seven times the steps"
	@echo "make test         run the test suite"
	@echo "make test-long    run the long forms of its tests, such as every fault, more than an hour"
	@echo "make test-notebooks  run the course, notebooks/es or, with NOTEBOOK_LANGUAGE=en, notebooks/en"
	@echo "make parity       compare every model with transformers and PyTorch (installs both)"
	@echo "make lint         check style and types"
	@echo "make docs         build the documentation site, build/site/index.html"
	@echo "make docs-test    look at it in a headless browser"
	@echo "make wheel-test   build the wheel, install it elsewhere, and train, fine-tune and generate with it"
	@echo "make clean        remove the virtual environment"

$(VENV)/installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("tx_jax needs Python 3.11 or newer, $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(python) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(python) -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(python) -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@touch $@

$(VENV)/installed-course: $(VENV)/installed
	$(python) -m pip install --quiet --disable-pip-version-check --editable ".[course]"
	@touch $@

$(VENV)/installed-parity: $(VENV)/installed
	$(python) -m pip install --quiet --disable-pip-version-check --editable ".[parity]"
	@touch $@

quickstart: RECIPE := configs/quickstart.py
quickstart-long: RECIPE := configs/quickstart.py:long
quickstart-long: RUN := runs/quickstart_long
quickstart quickstart-long: $(VENV)/installed
	$(python) -m experiments.prepare --source=embedded --store=$(STORE) --vocab_size=2048 --validation_fraction=0.1
	$(python) -m experiments.train --config=$(RECIPE) --config.data.store=$(STORE) --workdir=$(RUN) $(TRAIN_FLAGS)
	$(python) -m experiments.evaluate --workdir=$(RUN)
	$(python) -m experiments.fill_mask --workdir=$(RUN) \
	    --text="Return [MASK] if the object is a string." \
	    --text="This function raises an [MASK] if the file does not exist." \
	    --text="The first [MASK] is the name of the file." \
	    --text="A list of [MASK] is returned."

test: $(VENV)/installed-test
	$(python) -m pytest --numprocesses=2 $(TESTS)

test-long: $(VENV)/installed-test
	$(python) -m pytest -m long --numprocesses=2 $(TESTS)

# One after another, each in its folder and a kernel of its own; then the seconds of each.
test-notebooks: $(VENV)/installed-course
	$(python) -m notebooks.sync --check
	MPLBACKEND= $(python) -m pytest --nbmake --nbmake-timeout=600 -p no:cacheprovider -W default --durations=0 \
	    notebooks/$(NOTEBOOK_LANGUAGE)/$(NOTEBOOKS).ipynb

$(RUN)/DONE:
	$(MAKE) quickstart

parity: $(VENV)/installed-parity $(RUN)/DONE
	$(python) -m tests.parity.compare
	$(python) -m tests.parity.compare --large
	$(python) -m tests.parity.attention
	$(python) -m tests.parity.rows
	$(python) -m tests.parity.seq2seq
	$(python) -m tests.parity.translation_models
	$(python) -m tests.parity.generation
	$(python) -m tests.parity.training
	$(python) -m tests.parity.windows
	$(python) -m tests.parity.minilm
	$(python) -m tests.parity.export $(RUN)

# What users see has the checker's usual rules, more than those of pyproject.toml.
PUBLIC := tests/front_door_types.py tx_jax/__init__.py tx_jax/api.py tx_jax/loaded.py tx_jax/arguments.py tx_jax/extend.py \
    tx_jax/added.py tx_jax/shipped.py

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyrefly check --python-interpreter-path $(python)
	$(VENV)/bin/pyrefly check --preset=default --python-interpreter-path $(python) $(PUBLIC)

docs: $(VENV)/installed-docs
	$(python) -m docs.build

docs-test: docs
	$(python) -m tests.site

wheel-test: $(VENV)/installed
	$(python) -m tests.wheel

clean:
	rm -rf $(VENV)
