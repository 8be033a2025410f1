"""`illava config`."""

from __future__ import annotations

import json

import pytest
import yaml

from illava_cli.config import preset_names, resolve, shipped
from tests.cli.conftest import MODEL

SHIPPED = [str(path) for kind in ("models", "presets") for path in shipped(kind).values()]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--preset", "off", "--max-tokens", "5", "--fps", "2"],
        ["--set", "vision=null"],
        ["--set", "llm.keep=0.5", "--set", "vision.layers=[1, 2]", "--stop", "x"],
    ],
    ids=" ".join,
)
def test_show_gives_a_file_that_gives_the_same_settings(main, tmp_path, flags):
    code, out, err = main("config", "show", *MODEL, *flags)
    assert code == 0, err
    again = tmp_path / "again.yaml"
    again.write_text(out)
    config = resolve(str(again), environ={})
    assert out.startswith(f"# hash: {config.hash()}\n")
    assert main("config", "show", "-m", str(again))[1] == out


def test_show_says_what_merging_it_amounts_to(main):
    code, out, _ = main(
        "config", "show", "-m", "random:qwen2-vl-toy", "--preset", "qwen2-vl", "--set", "vision.drop=0.2"
    )
    assert code == 0
    comments = "\n".join(line[2:] for line in out.split("# merging (qwen2_vl")[1].splitlines()[1:])
    assert yaml.safe_load(comments)["vision"]["drop"] == 0.2


def test_show_follows_flags_then_environment_then_yaml(illava, tmp_path):
    import os

    path = tmp_path / "x.yaml"
    path.write_text(
        "model: {id: Qwen/Qwen2-VL-2B-Instruct}\ngeneration: {max_tokens: 7, seed: 7, top_p: 0.7}\n"
    )
    environment = os.environ | {"ILLAVA_MAX_TOKENS": "8", "ILLAVA_SEED": "8"}
    done = illava("config", "show", "-m", str(path), "--seed", "9", env=environment)
    generation = yaml.safe_load(done.stdout)["generation"]
    assert (generation["seed"], generation["max_tokens"], generation["top_p"]) == (9, 8, 0.7)


def test_validate_shipped_files(main):
    code, out, err = main("config", "validate", *SHIPPED)
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"{path}: ok" for path in SHIPPED]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: {id: a/b}\ngeneraton: {}\n", "'generation'"),
        ("model: {id: a/b, dtype: float8}\n", "bfloat16"),
        ("model: {}\n", "names no checkpoint"),
        ("vision: {layers: [3], rr: 4}\n", "rr"),
        ("- a\n", "mapping"),
        ("a: [\n", "not valid YAML"),
        (None, "cannot read"),
    ],
)
def test_validate_names_what_is_wrong(main, tmp_path, text, expected):
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    good = SHIPPED[0]
    code, out, err = main("config", "validate", str(path), good)
    assert (code, out) == (2, f"{good}: ok\n")
    assert str(path) in err
    assert expected in err
    assert err.count("\n") == 1


def test_presets(main):
    code, out, _ = main("config", "presets")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == preset_names()
    assert "729 -> 361 -> 253" in out


def test_schema(main):
    code, out, _ = main("config", "schema")
    assert code == 0
    assert {"model", "preset", "vision", "llm", "media", "generation"} <= json.loads(out)["properties"].keys()
