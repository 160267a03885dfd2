# What a contributor runs. PYTHON chooses the interpreter: make install PYTHON=python3.11
PYTHON ?= python

.PHONY: install test lint docs ci

install: ## the package and everything that the other targets need, in the active environment
	$(PYTHON) -m pip install -e ".[test,dev,docs,web,export]"

test: ## the tests, in parallel; slow ones: pytest -m slow
	$(PYTHON) -m pytest

lint: ## style, types, layers, vocabulary
	ruff check .
	ruff format --check .
	# pyright does not follow the import hook of an editable install; it follows a link of the name of the package.
	mkdir -p build/linked && ln -sfn "$(CURDIR)" build/linked/densevision
	PYTHONPATH=build/linked pyright
	lint-imports --no-cache
	$(PYTHON) .ci/dialect.py

docs: ## the documentation site, strictly, into build/site
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

ci: ## everything, in a fresh environment, as the workflow does
	.ci/run
