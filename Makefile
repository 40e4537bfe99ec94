SHELL := /bin/bash
BIN := .venv/bin
# Further arguments, as in: make demo ARGS="--tasks 8"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test bench check lint unit faults docs audit format lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## create .venv with the pinned versions (CUDA if nvidia-smi answers)
	@requirements/install.sh

demo: install ## a round on the bundled model and pool, beside random tasks, ending in a report
	@$(BIN)/jostle demo $(ARGS)

test: install ## all tests; those that need a GPU skip themselves where there is none
	@$(BIN)/python -m pytest -n 2 $(ARGS)

# Those that two cores finish in 50 minutes.
BENCHMARKS := scoring reload counted python_path scaling

bench: install ## benchmarks against peers, 50 minutes on two cores; writes benchmarks/RESULTS.md
	@$(BIN)/python -m pip install --quiet --no-deps -r requirements/benchmarks.txt
	@set -e; for each in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$each; done
	@$(BIN)/python -m benchmarks.sampling --eager
	@$(BIN)/python -m benchmarks.results_page

check: lint unit ## what to run before every commit: lint, types, and the quick tests

lint: install ## lint, format check and type check
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

unit: install ## the tests that start no engine and no trainer and take a moment each
	@$(BIN)/python -m pytest -n 2 -p no:schemathesis --ignore=tests/integration \
		--ignore=tests/engine/server/http/test_fuzz.py \
		-m "not (slow or long or integration or gpu)" $(ARGS)

faults: install ## plant faults, one by one, and see that the tests notice each
	@$(BIN)/python -m tests.planted_faults $(ARGS)

docs: install ## build the site into docs/_build; warnings are errors
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs docs/_build

format: install ## apply the formatter and the safe fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

audit: install ## ask PyPI's database about known holes in the pinned versions (needs the network)
	@$(BIN)/python -m venv .venv/audit && .venv/audit/bin/pip --quiet install pip-audit==2.10.1
	@for set in cpu cuda model; do \
	  .venv/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/$$set.txt || exit; \
	done

lock: ## resolve the pinned versions again (needs uv)
	@requirements/lock.sh

clean: ## remove .venv and all caches; runs/ stays
	rm -rf .venv .venv.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage dist docs/_build docs/reference
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
