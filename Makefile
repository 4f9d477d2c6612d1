# Everything runs through uv; where the machine has only Python, uv comes into .uv/.
SHELL := /bin/bash
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --locked

.PHONY: help demo up test check clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv

ready: $(if $(filter .uv/bin/uv,$(UV)),.uv/bin/uv)
	@$(UV) sync --locked --quiet
.PHONY: ready

demo: ready ## Train, stream real applicants through Kafka, break it twice, reconcile
	$(RUN) creditstream demo

up: ready ## The same, but it stays until Ctrl-C
	$(RUN) creditstream up

test: ready ## All tests; those that need a real broker take one from Docker or Java
	$(RUN) pytest

check: ready ## Lint, format, types, dependency rule
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) lint-imports

clean: ## Remove what the demo and the tests left
	rm -rf .creditstream .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
