# Two commands: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SAMPLES := illava_cli/assets
ASK := $(BIN)/illava run -m tiny --no-stream

.PHONY: demo test test-slow test-network lint format clean

demo: $(VENV)/ready
	@echo "What shape is the red one? ($(SAMPLES)/shapes.jpg)"
	@$(ASK) --image $(SAMPLES)/shapes.jpg --prompt "What shape is the red one?"
	@echo; echo "How many shapes are there? ($(SAMPLES)/shapes.jpg)"
	@$(ASK) --image $(SAMPLES)/shapes.jpg --prompt "How many shapes are there?"
	@echo; echo "Which way does the circle move? ($(SAMPLES)/shapes.mp4)"
	@$(ASK) --video $(SAMPLES)/shapes.mp4 --num-frames 8 --prompt "Which way does the circle move?"

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 -m "not network and not slow"

# What takes minutes: a batch under twenty kills.
test-slow: $(VENV)/ready
	$(BIN)/python -m pytest -m slow

# The real checkpoints from the hub (about 6 GB): identity, counts and a plausible answer.
test-network: $(VENV)/ready
	$(BIN)/python -m pytest -m network

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
