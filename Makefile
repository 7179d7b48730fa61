# One command for each job. Versions stand in constraints.txt; scripts/install.sh uses them.

VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= cpu
STAMP := $(VENV)/.installed-$(TORCH)
PRESET ?= demo
# One more than cores, as many tests wait for a server.
WORKERS ?= $(shell $(BIN)/python -c 'import os; print(min(len(os.sched_getaffinity(0)), 7) + 1)')

.PHONY: run serve-local test lint format types check docs audit install help clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

run: $(STAMP)  ## Run the pipeline (PRESET=demo|jd|taobao|file.toml)
	@$(BIN)/bigel run $(PRESET)

serve-local: $(STAMP)  ## Prefect server and worker and MLflow server on localhost, until Ctrl-C
	@$(BIN)/bigel serve

test: $(STAMP)  ## Run the whole test suite, a file at a time on each core and one beside
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(STAMP)  ## Check style
	$(BIN)/ruff check .

format: $(STAMP)  ## Format the code
	$(BIN)/ruff format .

types: $(STAMP)  ## Check types
	$(BIN)/mypy

check: lint types  ## Style, format and types, changing nothing
	$(BIN)/ruff format --check .

docs: $(VENV)/.docs  ## Build the documentation as a site in build/site; a broken link fails
	@# without --quiet, under which warnings do not count
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "build/site/index.html; with its search: $(BIN)/python -m http.server -d build/site"

$(VENV)/.docs: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--no-build-isolation --editable '.[docs]'
	@touch $@

install: $(STAMP)  ## Set up the virtual environment (TORCH=cuda for a GPU)

$(STAMP): pyproject.toml constraints.txt scripts/install.sh
	@TORCH=$(TORCH) scripts/install.sh $(VENV)
	@rm -f $(VENV)/.installed-* && touch $@

audit: $(STAMP)  ## Known vulnerabilities of the pinned versions, if the database can be reached
	@scripts/audit.sh $(VENV)

clean:  ## Remove the environment and artifacts/ (mlruns/ stays: it holds the models)
	rm -rf $(VENV) artifacts build *.egg-info
