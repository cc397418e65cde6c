# Tintype. `make run` starts the studio and draws a picture; `make test` proves that everything works.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Another build of torch: TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu make run
TORCH_FROM := $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL))
# Test processes side by side: the tests wait for other processes most of the time.
TESTERS ?= 2
PROMPT ?= a red circle on a blue background
export PROMPT

.PHONY: run test check soak format clean

run: $(VENV)/.run
	@$(BIN)/tintype up --prompt "$$PROMPT"

test: check
	$(BIN)/python -m pytest tests --ignore tests/checks -m "not soak" -n $(TESTERS) --dist loadgroup --no-loadscope-reorder

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest tests/checks

soak: $(VENV)/.test
	$(BIN)/python -m pytest tests -m soak --timeout 3600

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tintype needs Python 3.11 or newer: PYTHON=python3.12 make $(MAKECMDGOALS)")'
	@echo "installing into $(VENV), once: first PyTorch, by far the largest part, then the rest"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --quiet install -c constraints.txt pip setuptools
	@$(PIP) install -c constraints.txt $(TORCH_FROM) torch==2.13.0
	@$(PIP) --quiet install -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run scripts/install_test_system.sh
	sh scripts/install_test_system.sh
	$(PIP) --quiet install -c constraints.txt -e '.[test,check]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
