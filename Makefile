# Everything a checkout needs. `make demo` and `make test` set themselves up: Python 3.11 or later
# with its venv module and a package index are all they ask for. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes
EDITABLE := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
# One stamp for each set of packages: the demo does not wait for the tools of the tests.
RUNTIME := $(VENV)/.runtime
READY := $(VENV)/.ready
JOBS ?= 2
EXECUTIONS ?= 1000000
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup demo test check bench soak fuzz docs lock proto clean example-json example-audiohook example-diarise example-transcribe example-archive

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 20

setup: $(READY)  ## make the virtual environment with everything in it

demo: $(RUNTIME)  ## simulator, gateway and consumer on this machine; ends by itself
	@$(BIN)/steno demo $(DEMO_ARGS)

test: $(READY)  ## run the tests, full-count fault tests excepted
	$(PYTEST) -n $(JOBS) -m "not soak" $(TEST_ARGS)

check: $(READY)  ## format, lint, types, import contract, generated files, links
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/reference.py --check
	$(BIN)/python tools/links.py
	$(BIN)/python tools/proto.py --check

bench: $(READY)  ## measure; STENO_BASELINE names the side-by-side harness
	$(BIN)/python -m bench $(BENCH_ARGS)

soak: $(READY)  ## the full counts of the fault tests
	$(PYTEST) -m soak --timeout 3600 $(TEST_ARGS)

fuzz: $(READY)  ## property tests with many more examples, and mutated messages
	$(PYTEST) -n $(JOBS) -m "hypothesis and not soak" --hypothesis-profile fuzz --timeout 3600 $(TEST_ARGS)
	$(BIN)/python fuzz/audiohook_text.py --executions $(EXECUTIONS)
	$(BIN)/python fuzz/media_envelope.py --executions $(EXECUTIONS)
	$(BIN)/python fuzz/stored_transcripts.py --executions $(EXECUTIONS)

example-json: $(READY)  ## a call of the JSON form with an independent speech service
	@$(BIN)/python examples/json_flow.py

example-audiohook: $(READY)  ## an AudioHook call whose words come back as entities
	@$(BIN)/python examples/audiohook_flow.py

example-diarise: $(READY)  ## who said what, collected from simulated conversations
	@$(BIN)/python examples/diarise_flow.py $(ARGS)

example-transcribe: $(READY)  ## a simulated recording's transcript, webhook and audit log
	@$(BIN)/python examples/transcribe_flow.py $(ARGS)

example-archive: $(READY)  ## a stored transcript, fetched, aligned, archived and summed up
	@$(BIN)/python examples/archive_flow.py $(ARGS)

docs: $(READY)  ## write the generated reference pages
	$(BIN)/python tools/reference.py

lock: $(READY)  ## compile requirements/*.in to pinned, hashed *.txt
	cd requirements && for set in build runtime speech formats score dev; do \
	  ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-emit-index-url --no-emit-find-links $$set.in -o $$set.txt || exit 1; done

proto: $(READY)  ## write src/steno/_proto from proto/
	$(BIN)/python tools/proto.py

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Steno needs Python 3.11 or later; name it: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "making $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements/runtime.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "installing what Steno runs with" >&2
	@$(PIP) -r requirements/build.txt -r requirements/runtime.txt
	@$(EDITABLE)
	@touch $@

$(READY): requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "installing what Steno is built and tested with" >&2
	@$(PIP) -r requirements/dev.txt
	@$(EDITABLE)
	@touch $(RUNTIME) $@
