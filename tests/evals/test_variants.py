"""What is compared, by name and settings."""

from functools import partial

import pytest

from illava_cli.config import Config, resolve
from illava_cli.errors import UsageError
from illava_cli.evals.variants import parse, variants


def make(presets=(), named=(), settings=(), blind=False, methods=()):
    def with_settings(more):
        return resolve("random:llava-onevision-toy", settings=[*settings, *more], environ={})

    return {v.name: v for v in variants(with_settings, presets, named, blind, methods)}


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("half: preset=paper llm.keep=0.5", "half", ["preset=paper", "llm.keep=0.5"]),
        ("  two words :llm.keep=0.5", "two words", ["llm.keep=0.5"]),
        ("llm.keep=0.5", "llm.keep=0.5", ["llm.keep=0.5"]),
        ("x: vision.layers=[1, 2]  vision.r=[3, 4]", "x", ["vision.layers=[1, 2]", "vision.r=[3, 4]"]),
        ("vision={layers: [1], r: 2}", "vision={layers: [1], r: 2}", ["vision={layers: [1], r: 2}"]),
    ],
)
def test_parse(text, name, settings):
    assert parse(text) == (name, settings)


def test_the_reference_comes_first_and_merges_nothing():
    found = make(settings=["llm.keep=0.5", "media.max_tiles=1"])
    assert list(found) == ["off", "auto"]
    assert found["off"].config.reduction_for("llava_onevision").llm is None
    assert found["off"].config.media.max_tiles == 1
    assert found["auto"].config.reduction_for("llava_onevision").llm.image.keep == 0.5


def test_presets_and_named_variants_over_common_settings():
    found = make(["paper", "off"], ["half: preset=image llm.keep=0.5"], ["llm.keep=0.3"], blind=True)
    assert list(found) == ["off", "blind", "paper", "half"]
    assert found["blind"].blind
    assert found["blind"].config == found["off"].config
    keep = {name: v.config.reduction_for("llava_onevision").llm for name, v in found.items()}
    assert keep["off"] is keep["blind"] is None
    assert (keep["paper"].keep, keep["half"].keep) == (0.3, 0.5)


def test_methods_at_each_preset():
    assert list(make(["paper"], methods=["illava", "random"])) == ["off", "illava", "random"]
    found = make(["paper", "image"], methods=["random"])
    assert list(found) == ["off", "paper random", "image random"]
    assert found["image random"].config.reduction_for("llava_onevision").method == "random"
    with pytest.raises(UsageError, match="preset off has none"):
        make(["off"], methods=["random"])


@pytest.mark.parametrize(
    ("named", "settings", "said"),
    [
        (["a: llm.keep=1", "a: llm.keep=0.5"], [], "two variants are called 'a'"),
        (["off: llm.keep=1"], [], "always the reference"),
        (["half:"], [], "expected NAME: key=value"),
        (["half: llm.keep"], [], "expected name=value"),
        (["half: model.dtype=float64"], [], "use --set model.dtype=float64"),
        (["half: llm.kep=1"], [], "did you mean 'keep'"),
        (["half: preset=papr"], [], "did you mean 'paper'"),
        ([], ["generation.temperature=1"], "leave generation.temperature at 0"),
        (["hot: generation.temperature=1"], [], "leave generation.temperature at 0"),
    ],
)
def test_refused(named, settings, said):
    with pytest.raises(UsageError) as error:
        make([], named, settings)
    assert said in str(error.value)


def test_the_runs_own_preset_is_the_default():
    def resolve_(settings, preset):
        return Config(preset=preset)

    assert [v.name for v in variants(partial(resolve_, preset="paper"), [], [])] == ["off", "paper"]
    assert [v.name for v in variants(partial(resolve_, preset="off"), [], [])] == ["off"]
