# Two commands: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SAMPLES := illava_cli/assets
TOY := random:llava-onevision-toy
ASK := $(BIN)/illava run -m $(TOY) --max-tokens 16 --temperature 1 --no-stream

.PHONY: demo test test-network lint format clean

demo: $(VENV)/ready
	@echo "The toy has the real geometry and random weights: the token counts are real, the text is random."
	@echo; echo "What is shown in the picture? ($(SAMPLES)/sample.jpg)"
	@$(ASK) --image $(SAMPLES)/sample.jpg --prompt "What is shown in the picture?"
	@echo; echo "What moves, and in which direction? ($(SAMPLES)/sample.mp4)"
	@$(ASK) --video $(SAMPLES)/sample.mp4 --num-frames 8 --prompt "What moves, and in which direction?"

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 -m "not network"

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
