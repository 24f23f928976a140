# Everything a developer types. Each target sets up what it needs, in .venv and in folders named with a dot.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: help demo test check bench clean

help:           ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/demo.stamp        ## Download a few movies in a real Scipion project; ENTRY=10200 MOVIES=2 asks the real EMPIAR
	@$(PY) -m empiardownloader.demo.environment .demo -- $(PY) -m empiardownloader.demo $(if $(ENTRY),--entry $(ENTRY)) $(if $(MOVIES),--movies $(MOVIES))

test: $(VENV)/test.stamp        ## Run all tests; TESTS=empiardownloader/tests/test_archive_header.py runs some
	@$(PY) -m empiardownloader.demo.environment .test -- $(PY) -m pytest -q $(or $(TESTS),empiardownloader/tests)

check: $(VENV)/test.stamp       ## Look for mistakes and style
	@$(PY) -m ruff check .

bench: $(VENV)/test.stamp       ## Measure speed and cost, side by side with other programs; ONLY=transfer measures a part
	@$(PY) -m empiardownloader.demo.environment .bench -- $(PY) bench $(ONLY)

clean:          ## Remove everything that was set up
	rm -rf $(VENV) .demo .test .bench build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@echo "Making a Python environment in $(VENV) (a few minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: $(VENV)/bin/python setup.py requirements.txt requirements-demo.txt
	@$(PY) -m pip install -q -e ".[demo]"
	@touch $@

$(VENV)/test.stamp: $(VENV)/bin/python setup.py requirements.txt requirements-test.txt
	@$(PY) -m pip install -q -e ".[test]"
	@touch $@
