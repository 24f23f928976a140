# Everything a developer types. Each target sets up what it needs, in .venv and in folders named with a dot.
VENV := .venv
PY := $(VENV)/bin/python
# Tests run side by side: they wait more than they compute.
WORKERS := 8
RUN = $(PY) -m empiardownloader.demo.environment
# Where napari is, for the demo, the tests and the bench.
NAPARI := .venv-napari
export EMPIAR_NAPARI_PYTHON ?= $(abspath $(NAPARI))/bin/python
# Tests and demos start hundreds of processes, each of which would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help demo test downstream quick check bench course pictures clean demo-python test-python downstream-python napari-python

help:           ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: demo-python $(if $(filter napari,$(LIVE)),napari-python)       ## Download a few movies in a real Scipion project; KIND=particles other images, LIVE=napari (or imagej, web) shows them as they come, ENTRY=10200 MOVIES=2 the real EMPIAR
	@$(RUN) .demo -- $(PY) -m empiardownloader.demo $(if $(KIND),--kind "$(KIND)") $(if $(ENTRY),--entry $(ENTRY)) \
		$(if $(MOVIES),--movies $(MOVIES)) $(if $(LIVE),--live $(LIVE))

test: test-python       ## Run all tests; TESTS=empiardownloader/tests/test_images_header.py runs some
	@$(RUN) .test -- $(PY) -m pytest -q --durations=10 $(if $(TESTS),$(TESTS),-n $(WORKERS) --dist worksteal empiardownloader/tests \
		--ignore empiardownloader/tests/downstream)

downstream: downstream-python   ## Feed our sets to RELION, motion correction, tomography (plugins in an environment of their own)
	@mkdir -p .test && rm -f .test/downstream.txt
	@EMPIAR_DOWNSTREAM_REPORT=$(abspath .test)/downstream.txt .venv-downstream/bin/python -m empiardownloader.demo.environment \
		.test -- .venv-downstream/bin/python -m pytest -q --durations=5 $(if $(TESTS),$(TESTS),-n 4 --dist worksteal empiardownloader/tests/downstream)
	@sort -u .test/downstream.txt

quick: test-python      ## Run the quick tests and one real run, on another Python say: make quick PYTHON=3.8 VENV=.venv-3.8
	@$(RUN) .test -- $(PY) -m pytest -q -n 2 -m quick empiardownloader/tests --ignore empiardownloader/tests/downstream

check: test-python      ## Look for mistakes, style, types, and pages that cannot be made
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@for page in README.rst CONTRIBUTING.rst docs/*.rst; do $(PY) -m docutils --report=2 --halt=2 $$page /dev/null || exit 1; done

bench: test-python      ## Measure speed and cost, side by side with other programs; ONLY=transfer measures a part
	@$(RUN) .bench -- $(PY) bench $(ONLY)

pictures: test-python napari-python     ## Make the pictures of the windows and the live viewers anew, of the demo's data
	@rm -rf .test/pictures && mkdir -p .test/pictures
	@EMPIAR_PICTURES=$(abspath .test)/pictures $(RUN) .test -- $(PY) -m pytest -q empiardownloader/tests/test_gui.py \
		empiardownloader/tests/test_find.py
	@for pair in form_figures:form wizard_files:wizard viewer_finished:viewer find_image:find image_sets:image_sets; do \
		cp .test/pictures/$${pair%%:*}.png docs/$${pair##*:}.png; done
	@PYTHONPATH=. $(RUN) .test -- $(PY) docs/live_pictures.py

course: test-python     ## Write docs/course.rst: entries for a course, from EMPIAR as it is now
	@PYTHONPATH=. $(PY) docs/course.py docs/course.rst

clean:          ## Remove everything that was set up
	rm -rf $(VENV) .venv-* .demo .test .bench build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

demo-python:
	@.ci/venv $(VENV) demo "$(PYTHON)"

test-python:
	@.ci/venv $(VENV) test "$(PYTHON)"

downstream-python:
	@.ci/venv .venv-downstream downstream "$(PYTHON)"

napari-python:  # napari in an environment of its own, never in Scipion's
	@.ci/venv $(NAPARI) napari "$(PYTHON)"
