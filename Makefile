# What a developer does, one word each. A second call of any of these sets nothing up again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
USE := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help quickstart setup test check fuzz recipes ablation bench clean

help:
	@echo "make quickstart   train, evaluate, publish and use a medical specialist, on this CPU"
	@echo "make test         run the fast tests"
	@echo "make check        format, lint, types, tests and the README's code: what CI runs"
	@echo "make fuzz         ten minutes of hostile bytes for each reader of foreign input (tests/fuzz)"
	@echo "make recipes      train and evaluate every recipe, and write docs/results* (DATA=FOLDER: files in place of the hub)"
	@echo "make ablation     measure what losses, augmentations and training methods contribute, into docs/results* (ABLATION='--recipes R --methods M')"
	@echo "make bench        the other measurements in benchmarks/"
	@echo "make clean        remove .venv and what tools leave behind; runs and registries stay"

quickstart: $(USE)
	$(BIN)/vertical quickstart

setup: $(DEV)

test: $(DEV)
	$(BIN)/python -m pytest -n auto --dist loadfile

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test
	$(BIN)/python -m pytest -m slow tests/test_readme.py

fuzz: $(DEV)
	$(PIP) atheris
	$(BIN)/python tests/fuzz/run.py $(FUZZ)

recipes: $(DEV)
	$(BIN)/python benchmarks/recipes.py $(if $(DATA),--data $(DATA))

ablation: $(DEV)
	$(BIN)/python benchmarks/ablation.py $(if $(DATA),--data $(DATA)) $(ABLATION)

bench: $(DEV)
	@for file in benchmarks/*.py; do \
		case $$file in benchmarks/recipes.py|benchmarks/ablation.py|benchmarks/learning_curve.py|benchmarks/few_rows_page.py|benchmarks/local.py|benchmarks/page.py|benchmarks/instructions.py|benchmarks/turns.py|benchmarks/plot.py|benchmarks/crossfit.py|benchmarks/label_noise.py) continue ;; esac; \
		echo "== $$file"; $(BIN)/python $$file || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(USE): pyproject.toml setup.py constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(DEV): $(USE)
	$(PIP) -e '.[dev]'
	@touch $@
