"""Checkpoints that are not whole, too small, or cannot be had: one line, exit 1."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests import processes
from tests.builders import write_llava_onevision, write_qwen2_vl
from tests.program_broken.lines import ASK, OFF, PROGRAM, one_line


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A checkpoint in the hub's layout, to be damaged as a copy."""
    return write_qwen2_vl(tmp_path_factory.mktemp("whole") / "checkpoint", layout="old")


def test_a_checkpoint_without_one_of_its_weights(main, whole, tmp_path):
    copy = shutil.copytree(whole, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    name = next(name for name in weights if "layers.3.mlp" in name)
    del weights[name]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    one_line(main("run", "-m", "copy", *OFF, *ASK, "-o", "answer.txt"), 1, "not whole", "1 missing", "mlp")
    assert os.listdir() == ["copy"]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", "missing"),
        ("model.safetensors", "empty"),
        ("config.json", "empty"),
        ("chat_template.json", "missing"),
        ("chat_template.json", "empty"),
        ("tokenizer.json", "missing"),
        ("tokenizer.json", "empty"),
        ("preprocessor_config.json", "missing"),
        ("preprocessor_config.json", "empty"),
        ("video_preprocessor_config.json", "empty"),
    ],
)
def test_a_checkpoint_without_one_of_its_files(main, whole, tmp_path, name, damage):
    copy = shutil.copytree(whole, tmp_path / "copy")
    (copy / name).unlink()
    if damage == "empty":
        (copy / name).touch()
    one_line(main("run", "-m", "copy", *OFF, *ASK), 1, "copy")


def test_a_context_that_is_too_short(main, tmp_path, files):
    """The prompt must fit; an answer that would not is shortened, and that is said."""
    write_llava_onevision(tmp_path / "short", text_config={"max_position_embeddings": 64})
    flags = ["run", "-m", "short", "--preset", "off", *ASK]
    done = main(*flags, "--image", str(files / "good.jpg"), "-o", "answer.txt")
    one_line(done, 1, "context is 64", "--max-tiles")
    assert os.listdir() == ["short"]
    code, _, err = main(*flags, "--max-tokens", "100")
    assert code == 0
    assert re.match(r"illava: the context leaves room for \d+ of the 100 tokens asked for\n", err)


@pytest.mark.needs("no GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_asked_for_and_absent(run, device):
    one_line(run(*ASK, "--device", device), 1, "--device cpu")


def test_offline(tmp_path):
    done = processes.run(
        [PROGRAM, "run", "-m", "somebody/some-model", "--device", "cpu", *ASK],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )
    one_line((done.returncode, done.stdout, done.stderr), 1, "offline mode is set", "-m tiny")
