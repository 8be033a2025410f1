"""The common flags: command line > ILLAVA_* > YAML > defaults."""

from __future__ import annotations

import pytest

from illava_cli.cli.options import ModelFlags
from tests.cli.conftest import MODEL

YAML = """\
model: {id: Qwen/Qwen2-VL-2B-Instruct, dtype: float16}
media: {num_frames: 4}
generation: {max_tokens: 7}
"""


@pytest.fixture
def yaml_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(YAML)
    return str(path)


def test_nothing_given_overrides_nothing():
    assert ModelFlags().overrides() == {}
    assert ModelFlags(stop=[]).overrides() == {}


def test_zero_is_a_value():
    flags = ModelFlags(temperature=0.0, seed=0, start=0.0)
    assert flags.overrides() == {"generation": {"temperature": 0.0, "seed": 0}, "media": {"start": 0.0}}


def test_yaml_over_default(yaml_file):
    assert ModelFlags(model=yaml_file).config().generation.max_tokens == 7


def test_environment_over_yaml(yaml_file, monkeypatch):
    monkeypatch.setenv("ILLAVA_MAX_TOKENS", "8")
    assert ModelFlags(model=yaml_file).config().generation.max_tokens == 8


def test_flag_over_environment(yaml_file, monkeypatch):
    monkeypatch.setenv("ILLAVA_MAX_TOKENS", "8")
    monkeypatch.setenv("ILLAVA_MODEL", "no-such-model")
    config = ModelFlags(model=yaml_file, max_tokens=9).config()
    assert config.generation.max_tokens == 9
    assert config.model.dtype == "float16"


def test_set_over_flag(yaml_file):
    config = ModelFlags(model=yaml_file, max_tokens=9, settings=["generation.max_tokens=10"]).config()
    assert config.generation.max_tokens == 10


def test_one_kind_of_sampling_replaces_the_other_wherever_it_came_from(yaml_file, monkeypatch):
    monkeypatch.setenv("ILLAVA_NUM_FRAMES", "8")
    media = ModelFlags(model=yaml_file, fps=2.0).config().media
    assert (media.fps, media.num_frames) == (2.0, None)


def test_every_flag_reaches_the_session(main, sessions):
    flags = {
        "--preset": "off",
        "--device": "cpu",
        "--device-map": "auto",
        "--dtype": "float32",
        "--attn": "sdpa",
        "--quantization": "bnb-4bit",
        "--fps": "2",
        "--start": "1",
        "--end": "3.5",
        "--max-tiles": "1",
        "--min-pixels": "784",
        "--max-pixels": "100000",
        "--max-megapixels": "50",
        "--video-backend": "pyav",
        "--media-timeout": "7.5",
        "--max-tokens": "5",
        "--temperature": "0.5",
        "--top-p": "0.9",
        "--top-k": "40",
        "--min-p": "0.05",
        "--seed": "3",
        "--system": "Be brief.",
        "--set": "llm.keep=0.5",
    }
    arguments = [part for flag in flags.items() for part in flag]
    switches = ["--tile-each", "--thinking", "--stop", "a", "--stop", "b"]
    code, _, err = main("run", *MODEL, "-p", "x", *arguments, *switches)
    assert code == 0, err
    config = sessions[0].config
    assert config.model.model_dump(exclude_unset=True) == {
        "id": "Qwen/Qwen2-VL-2B-Instruct",
        "schedule": "qwen2_vl_2b",
        "dtype": "float32",
        "device": "cpu",
        "device_map": "auto",
        "attn": "sdpa",
        "quantization": "bnb-4bit",
    }
    assert config.preset == "off"
    assert config.llm.keep == 0.5
    assert config.media.model_dump(exclude_none=True) == {
        "fps": 2.0,
        "start": 1.0,
        "end": 3.5,
        "max_tiles": 1,
        "min_pixels": 784,
        "max_pixels": 100000,
        "max_megapixels": 50.0,
        "tile_each": True,
        "video_backend": "pyav",
        "media_timeout": 7.5,
    }
    assert config.generation.model_dump(exclude_unset=True) == {
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "seed": 3,
        "stop": ["a", "b"],
        "system": "Be brief.",
        "thinking": True,
    }
