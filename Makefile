# make train    set up, train on the embedded corpus (CONFIG=... DATA=... for IMDB)
# make test     set up, lint, test          make test-all   the long tests as well
PYTHON ?= python3
CONFIG ?= configs/corpus_lstm.yaml
DATA   ?=
ARGS   ?=
BIN    := .venv/bin

.PHONY: train test test-all lint clean

NATIVE := $(wildcard seqcells/kernels/native/*)

.venv/ready: constraints.txt setup.cfg setup.py pyproject.toml $(NATIVE)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	touch $@

train: .venv/ready
	$(BIN)/python train.py $(CONFIG) $(if $(DATA),--data.path $(DATA)) $(ARGS)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/python -m pytest -m 'not slow' $(ARGS)

test-all: lint
	$(BIN)/python -m pytest $(ARGS)

clean:
	rm -rf .venv build seqcells/kernels/_native.so *.egg-info .pytest_cache .ruff_cache .hypothesis
