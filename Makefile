# make train    install, train on the embedded corpus (CONFIG=... DATA=... for IMDB)
# make test     install, lint, run the fast tests    make test-all   run the slow tests too
# make docs     build the documentation in build/docs
# make kernels  generate the kernels (programs, C++, Triton) from the cells' equations
# make sanitize run the CPU kernel tests under AddressSanitizer and UndefinedBehaviorSanitizer
# make matrix   run the fast tests with other versions of torch (ROWS="3.11:2.7.1 3.13:2.13.0")
# PYTHON=python3.12 names the interpreter; an environment of another version is then rebuilt.
PYTHON ?= python3
CONFIG ?= configs/corpus_lstm.yaml
DATA   ?=
ARGS   ?=
ROWS   ?=
BIN    := .venv/bin

# Processes that the tests start load bytecode in place of compiling sources.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: train test quick test-all lint docs kernels sanitize matrix clean

NATIVE := $(wildcard seqcells/kernels/cpu/native/*)

.venv/ready: constraints.txt setup.cfg setup.py pyproject.toml $(NATIVE)
	@sh .ci/environment '$(PYTHON)' '$(origin PYTHON)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	rm -f .venv/unfinished
	touch $@

# Only a named interpreter is compared with the environment: a probe on every call costs time.
ifneq ($(origin PYTHON),file)
version_of = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
ifneq ($(call version_of,$(PYTHON)),$(call version_of,$(BIN)/python))
.venv/ready: other-version
.PHONY: other-version
other-version:
endif
endif

train: .venv/ready
	$(BIN)/python train.py $(CONFIG) $(if $(DATA),--data.path $(DATA)) $(ARGS)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One worker per core; a worker that runs out of tests takes some from another.
WORKERS := -n logical --maxprocesses 8 --dist worksteal
test: .venv/ready
	$(MAKE) --no-print-directory -j 2 lint quick

quick: .venv/ready
	$(BIN)/python -m pytest -m 'not slow' $(WORKERS) --durations=10 $(ARGS)

test-all: lint
	$(BIN)/python -m pytest --durations=10 $(ARGS)

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo 'Open build/docs/index.html in a browser; no server is needed.'

kernels: .venv/ready
	$(BIN)/python -m seqcells.cells.write_kernels

# Instrumented build: checks memory accesses and undefined behaviour (shifts, casts).
SANITIZED := build/sanitized
NATIVE_TESTS := $(addprefix kernels/test_cpu,.py _interpreter.py _noise.py)
NATIVE_TESTS += kernels/test_narrow.py recurrence/test_all_states.py
sanitize: .venv/ready
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	cp -r seqcells tests setup.py setup.cfg pyproject.toml README.md LICENSE $(SANITIZED)
	cd $(SANITIZED) && rm -f seqcells/kernels/cpu/_native.so && \
	  CXXFLAGS='-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all' \
	  $(abspath $(BIN))/python setup.py --quiet build_ext --inplace
	cd $(SANITIZED) && PYTHONPATH=. ASAN_OPTIONS=detect_leaks=0 \
	  LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libstdc++.so)" \
	  $(abspath $(BIN))/python -m pytest $(addprefix tests/core/,$(NATIVE_TESTS)) \
	    -m 'not slow' -p no:faulthandler $(ARGS)

matrix: .venv/ready
	$(BIN)/python -m tests.matrix $(ROWS) $(ARGS)

clean:
	rm -rf .venv build seqcells/kernels/cpu/_native.so *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
