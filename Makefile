# The everyday commands. All run by uv with the locked versions; .ci/uv brings uv where it is missing.
SHELL := /bin/bash
RUN := .ci/uv run --locked
.DEFAULT_GOAL := help
# Some containers switch compiled modules off; each process that is started would take seconds more.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

.PHONY: ready
ready:
	@.ci/uv sync --locked --quiet

.PHONY: demo
demo: ready ## Train, stream real applicants through Kafka, break it twice, reconcile
	$(RUN) creditstream demo

.PHONY: up
up: ready ## The same installation, but it stays until Ctrl-C
	$(RUN) creditstream up

.PHONY: bench
bench: ready ## Measure one worker on one core, end to end and stage by stage
	$(RUN) creditstream bench pipeline

.PHONY: test
test: ready ## All tests but `faults`; those that need a real broker take one from Docker or Java
	$(RUN) pytest --ignore=tests/faults -n auto --dist loadfile --no-loadscope-reorder

# Of the simulation: so many from 0 on, or `first:end`; `make test` runs 100.
SEEDS ?= 2000

.PHONY: simulate
simulate: ready ## SEEDS of the simulated system: all faults mixed, under a virtual clock
	SIMULATION_SEEDS=$(SEEDS) $(RUN) pytest -n 0 tests/simulation -k all_seeds

# Inputs, damaged releases and tables, and models of a run of the fuzzers; SEED repeats it.
COUNT ?= 100000
DAMAGED ?= 1000
MODELS ?= 1000
SEED ?= 1

.PHONY: fuzz
fuzz: ready ## By chance: COUNT hostile records, DAMAGED releases and tables, MODELS to score, SEED
	$(RUN) python -m tests.fuzz.events --count $(COUNT) --seed $(SEED)
	$(RUN) python -m tests.fuzz.releases --count $(DAMAGED) --seed $(SEED)
	$(RUN) python -m tests.fuzz.tables --count $(DAMAGED) --seed $(SEED)
	$(RUN) python -m tests.fuzz.scores --count $(MODELS) --seed $(SEED)

.PHONY: faults
faults: ready ## Workers, broker, ClickHouse and network harmed on purpose; FAULTS=long for hours of it
	$(RUN) pytest tests/faults

.PHONY: check
check: ready ## Lint, format, types, dependency rule
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) lint-imports

.PHONY: clean
clean: ## Remove what the demo, the tests and the checks left
	rm -rf .creditstream .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
