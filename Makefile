# Every target sets up what it needs; you need only Python 3.11 or newer, and make.
# ARGS passes on options:  make demo ARGS=--once    make test ARGS="-k replay -x"

.DEFAULT_GOAL := help
.PHONY: help demo run test soak check bench bench-night openapi pictures requirements audit clean

ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that is new enough; `make PYTHON=/opt/python/bin/python3 demo` names another.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
MAIN := $(VENV)/main.installed
DEV := $(VENV)/dev.installed

help:  ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F '|' '{ printf "%-20s%s\n", $$1, $$2 }'

demo: $(MAIN)  ## Start a demo with history and verdicts; ARGS=--once exits after the verdicts
	@$(BIN)/squash demo $(ARGS)

run: $(MAIN)  ## Run the service with the settings of the environment and .env
	@$(BIN)/squash serve $(ARGS)

# In the order of their names: what comes last is quick, so that both workers end at the same time.
# Tests start hundreds of processes: where nothing compiled is kept, each compiles everything anew.
test: export PYTHONDONTWRITEBYTECODE =
test: $(DEV)  ## Run the tests
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

soak: $(DEV)  ## The long forms of tests, for three hours or four: writes docs/reliability.md
	@$(BIN)/python -m tests.support.reliability $(ARGS)

check: $(DEV)  ## Lint, types, import rules, specifications, generated files; shows everything that fails
	@failed=; \
	for step in \
		"ruff check ." \
		"ruff format --check ." \
		"mypy" \
		"lint-imports --no-logo" \
		"squash specs check --strict $(wildcard specs/* examples/specs/*) examples/quicklook" \
		"squash generate --check" \
		"python -m squash_api.openapi --check docs/openapi.json"; \
	do \
		echo "== $$step"; \
		$(BIN)/$$step || failed="$$failed\n  $$step"; \
	done; \
	if [ -n "$$failed" ]; then printf "\nmake check failed:$$failed\n" >&2; exit 1; fi

bench: $(DEV)  ## Measure, and write docs/performance.md
	@$(BIN)/python -m benchmarks $(ARGS)

bench-night: $(DEV)  ## Measure Rubin's night, for about an hour: writes docs/night.md; ARGS="--visits 50" is short
	@$(BIN)/python -m benchmarks.night $(ARGS)

openapi: $(MAIN)  ## Write docs/openapi.json from the code
	@$(BIN)/python -m squash_api.openapi docs/openapi.json

pictures: $(DEV)  ## Make docs/images/ from the demo, with a real InfluxDB, Kapacitor and Chromium
	@$(BIN)/python -m tests.support.pictures docs/images

requirements:  ## Update the pinned versions of requirements/*.in, with hashes
	@rm -rf build/lock
	@$(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install --quiet --disable-pip-version-check pip-tools
	@cd requirements && for name in main postgresql changepoints kafka notebooks dev; do \
		../build/lock/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
			--no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
			--output-file $$name.txt $$name.in || exit 1; \
	done

# `--strict` fails where an advisory database does not answer, instead of passing over the package.
audit:  ## Look up the pinned versions in the Python advisory database; needs the network
	@rm -rf build/audit
	@$(PYTHON) -m venv build/audit
	@build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	@build/audit/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
		$(foreach name,main postgresql changepoints kafka notebooks dev,-r requirements/$(name).txt)

clean:  ## Remove the environment and all caches
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find squash_api tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# `venv` installs pip last, so an environment without it is incomplete and is made again.
$(BIN)/pip:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer is needed and not on PATH. Name it: make PYTHON=/path/to/python3 ..." >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is not Python 3.11 or newer. Name another: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) (once) ..." >&2
	@$(PYTHON) -m venv --clear $(VENV)

# The package itself is linked, not copied, so edits take effect at once.
$(VENV)/%.installed: requirements/%.txt pyproject.toml $(BIN)/pip
	@echo "Installing requirements/$*.txt into $(VENV) ..." >&2
	@$(INSTALL) --require-hashes -r requirements/$*.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@
