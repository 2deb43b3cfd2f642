# The report, its evidence and its tests: every job by name. `make` alone lists them.
#
#   RUN=NAME      which run (default fer2013); a name that is not there is trained first
#   DATA=PATH     FER2013 in any layout; without it a new run learns from synthetic faces
#   VOTES=PATH    fer2013new.csv of FER+        FACES=0  leave single real faces out of the pages
#   CLASSES=A,B,… what the numbers 0, 1, … of DATA mean    CODE=1   print the code in the PDF
#   NETWORK=FILE.py:Class  your own network; for a run of it, whenever it is looked at
#   EPOCHS= SEED= OPTIONS=  how a run is trained, where `report` or `train` makes it (see
#                           python -m fer_utils.train --help);  VARIANT= RECIPE=  for `train`
#   BUILD=FOLDER  where pages are written (default build)   JOBS=N  chapters at a time (default 2)
#   TORCH_INDEX=URL                             extra package index for torch's CPU wheels
#
# An active conda or virtual environment that has the project is used; else .venv is built here.

RUN ?= fer2013
BUILD ?= build
JOBS ?= 2
PARALLEL := -p no:nbval -n auto --maxprocesses 8
export FER_DATA := $(or $(DATA),$(FER_DATA))
export FER_VOTES := $(or $(VOTES),$(FER_VOTES))
export FER_CLASSES := $(or $(CLASSES),$(FER_CLASSES))
export FER_NETWORK := $(or $(NETWORK),$(FER_NETWORK))
export JUPYTER_PLATFORM_DIRS := 1

SYSTEM_PYTHON := $(if $(shell command -v python3 2>/dev/null),python3,python)
# -P: what is installed counts, not the folder that make stands in.
HAS_PROJECT := python -P -c 'import importlib.metadata as m; m.version("fer-utils"); import nbval, xdist'
ACTIVE := $(if $(VIRTUAL_ENV)$(CONDA_PREFIX),$(shell $(HAS_PROJECT) 2>/dev/null && echo python))
PYTHON := $(or $(ACTIVE),.venv/bin/python)
READY := $(if $(ACTIVE),,.venv/ready)
TRAINING = $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(SEED),--seed $(SEED)) $(OPTIONS)
CHAPTERS := $(sort $(wildcard notebooks/[0-9]*.ipynb))

.PHONY: help report lab train precomputed filters notebooks figures unit test test-all verify lint clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

.venv/ready: pyproject.toml constraints.txt
	@mkdir .venv.lock || { echo "another make builds .venv: wait for it (is none at work? then" \
	    "remove .venv.lock)" >&2; exit 1; }
	@trap 'rmdir .venv.lock' EXIT; trap 'exit 130' INT TERM; \
	$(SYSTEM_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(SYSTEM_PYTHON) is" \
	    "older than Python 3.11: name another, for instance SYSTEM_PYTHON=python3.12" >&2; exit 1; } && \
	echo "building .venv (a few minutes, once)" && \
	$(SYSTEM_PYTHON) -m venv .venv && \
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
	    $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[test]' && \
	touch $@

.venv/browser: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	@touch $@

report: $(READY) ## execute every chapter and render HTML and PDF into build/RUN
	@$(PYTHON) -m fer_utils.report --run $(RUN) --build "$(BUILD)" --jobs $(JOBS) \
	    $(if $(filter 0,$(FACES)),--no-faces) $(if $(filter 1,$(CODE)),--code) -- $(TRAINING)

lab: $(READY) ## open the chapters in JupyterLab, on their questions and answers
	@JUPYTER_CONFIG_PATH="$(CURDIR)/.jupyter" $(PYTHON) -m jupyterlab --ServerApp.root_dir=. \
	    --LabApp.default_url=/lab/tree/notebooks/README.md $(OPTIONS)

train: $(READY) ## train a run, or VARIANT= of a run, on DATA or on synthetic faces
	@$(PYTHON) -m fer_utils.train --run $(RUN) $(if $(VARIANT),--variant $(VARIANT)) $(if $(RECIPE),--recipe $(RECIPE)) \
	    $(TRAINING)
	@$(if $(VARIANT),:,$(PYTHON) -m fer_utils.precomputed $(RUN))

precomputed: $(READY) ## compute anew what the chapters show from many faces
	@$(PYTHON) -m fer_utils.precomputed $(RUN)

filters: $(READY) ## compute the filter cards of RUN anew and store them in it (a few minutes)
	@$(PYTHON) -m fer_utils.precomputed $(RUN) filters

notebooks: $(READY) ## refresh the stored outputs of every chapter (without the real images)
	@FER_DATA= FER_VOTES= $(PYTHON) -m jupyter nbconvert --to notebook --execute --inplace \
	    --ExecutePreprocessor.kernel_name=python3 --ExecutePreprocessor.record_timing=False \
	    --log-level WARN $(CHAPTERS)

figures: $(READY) ## write the READMEs' pictures and the overview anew, from the stored notebooks
	@$(PYTHON) -m fer_utils.report.figures

unit: $(READY) ## the quick tests alone
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(PARALLEL) -m "not slow and not whole" tests

test: $(READY) lint ## lint, tests, and the replay of every stored notebook
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(PARALLEL) -m "not slow" tests
	@FER_DATA= FER_VOTES= $(PYTHON) -m pytest --nbval -p no:randomly notebooks

test-all: $(READY) $(if $(ACTIVE),,.venv/browser) test ## and the slow tests, in a Chromium too where there is one
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(PARALLEL) --dist loadfile -m slow -rs tests

lint: $(READY)
	@$(PYTHON) -m ruff check --no-cache .
	@$(PYTHON) -m ruff format --no-cache --quiet --check .

verify: $(READY) ## score the shipped weights anew on DATA: every published figure must come out
	@$(PYTHON) -m fer_utils.precomputed --verify $(RUN)

clean: ## remove build/
	rm -rf "$(BUILD)"
