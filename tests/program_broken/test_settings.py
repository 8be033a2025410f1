"""Bad YAML, flags, schedules and prompts: one line, exit 2."""

from __future__ import annotations

import os

import pytest

from tests.program_broken.lines import ASK, LLAVA, OFF, QWEN, one_line


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("model: {id: x}\npreset: [off\nmedia: {}\n", ["line 3"]),
        ("model:\n\tid: x\n", ["line 2"]),
        ("model: {id: x}\ngeneration: {max_token: 3}\n", ["generation.max_token", "'max_tokens'"]),
        ("model: {id: x}\nvison: {}\n", ["'vison'", "'vision'"]),
        ("- model\n", ["mapping"]),
        ("preset: off\n", ["model.id"]),
        ("model: {id: x}\ngeneration: {max_tokens: 0}\n", ["generation.max_tokens"]),
    ],
)
def test_bad_yaml(main, tmp_path, text, parts):
    (tmp_path / "mine.yaml").write_text(text)
    one_line(main("run", "-m", "mine.yaml", *ASK), 2, "mine.yaml", *parts)


def test_missing_yaml(main):
    one_line(main("run", "-m", "missing.yaml", *ASK), 2, "missing.yaml", "No such file")


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--preset", "vidoe"], "'video'"),
        (["--preset", "missing.yaml"], "missing.yaml"),
        (["--format", "xml"], "text or json"),
        (["--num-frames", "4", "--fps", "1"], "exclude"),
        (["--start", "2", "--end", "1"], "before"),
        (["--set", "generation.temprature=1"], "'temperature'"),
        (["--set", "vision.layer=[1]"], "'layers'"),
        (["--set", "nothing=1"], "'nothing'"),
        (["--set", "llm.keep"], "name=value"),
        (["--set", "llm={layers: [2], keep: 1.5}"], "llm.keep"),
        (["--device", "gpu"], "cuda:N"),
        (["--dtype", "int8"], "'bfloat16'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_flag(run, files, flags, part):
    one_line(run("--video", str(files / "good.mp4"), *ASK, *flags, "-o", "answer.txt"), 2, part)
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("llava-onevision-7", "'llava-onevision-7b'"),
        ("random:qwen2-vl-toi", "'qwen2-vl-toy'"),
        ("./missing", "unknown model './missing'"),
        (".", "no config.json"),
    ],
)
def test_unknown_model(main, name, part):
    one_line(main("run", "-m", name, *OFF, *ASK), 2, part)


@pytest.mark.parametrize(
    ("family", "settings", "part"),
    [
        (LLAVA, ["vision={layers: [1], r: 36}"], "36 of the 36"),
        (LLAVA, ["vision={layers: [7], r: 1}"], "0 to 6"),
        (LLAVA, ["llm={layers: [6], keep: 0.5}"], "1 to 5"),
        (LLAVA, ["layout=grid", "vision={layers: [1], r: 5}"], "25 or 36"),
        (LLAVA, ["vision={layers: [1], drop: 0.2}"], "groups of patches"),
        (QWEN, ["layout=grid", "vision={layers: [1], drop: 0.2}"], "grid"),
        (QWEN, ["layout=faithful", "vision={layers: [1], r: 3}"], "vision.drop"),
    ],
)
def test_impossible_schedule(run, family, settings, part):
    flags = [word for setting in settings for word in ("--set", setting)]
    one_line(run(*ASK, *flags, family=family), 2, part)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(["--set", "llm={layers: [2], keep: 1/0}"], id="a fraction of zero"),
        pytest.param(["--set", "generation.seed=2024-13-45"], id="YAML that is no date"),
        pytest.param(["--seed", "99999999999999999999"], id="a seed of more than 64 bits"),
        pytest.param(["--device", "xpu"], id="a device that torch knows and we do not"),
        pytest.param(["--device", "meta"], id="a device that computes nothing"),
        pytest.param(["-m", "~/checkpoint"], id="a name that cannot be a hub id"),
    ],
)
def test_values_that_nobody_thought_of(run, settings):
    one_line(run(*ASK, *settings), 2)


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("<image> or <image>?", "2 <image> and there is 1 image"),
        ("<video>?", "1 <video> and there are 0 videos"),
    ],
)
def test_more_places_than_media(run, files, prompt, part):
    one_line(run("--image", str(files / "good.jpg"), "-p", prompt), 2, part)
