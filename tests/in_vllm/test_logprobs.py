"""vLLM with our towers says what illava says, for every family, kind of medium and layout."""

from __future__ import annotations

import pytest

from tests.in_vllm.asking import IMAGE, TWO, VIDEO, answers, illavas, same

FAMILIES = (
    "internvl",
    "llava_next",
    "llava_onevision",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
)
TILED = {"layers": [2, 3], "r": 8}
GROUPS = {"layers": [2, 3], "drop": 0.25}
ENTRY = {"method": "illava", "keep": 0.5}


def merging(family: str, **changes) -> dict:
    """A reduction in the tower and before the decoder; of small media too, which presets leave whole."""
    vision = TILED if family.startswith("llava") else GROUPS
    return {"preset": "off", "layout": "faithful", "vision": vision} | changes


def questions(family: str) -> list:
    return [IMAGE, TWO] if family == "llava_next" else [IMAGE, TWO, VIDEO]


def check(engines, family: str, settings: dict, ours: dict | None = None) -> list:
    """The same answers to all questions; those of vLLM."""
    engine, session = engines.of(family, settings), engines.session(family, ours or settings)
    asked = questions(family)
    said = answers(engine, session, asked)
    for one, own in zip(asked, said, strict=True):
        same(own, illavas(session, one))
    return said


@pytest.mark.parametrize("family", FAMILIES)
def test_without_merging(engines, family):
    check(engines, family, {"preset": "off"})


@pytest.mark.parametrize("family", FAMILIES)
def test_merging_in_the_tower_and_before_the_decoder(engines, family):
    """What merges in the decoder is kept before it: the same as a schedule that says so."""
    in_decoder = merging(family, llm={"method": "illava", "layers": [2, 4], "keep": [0.5, 1.0]})
    off = {"preset": "off"}
    whole = answers(engines.of(family, off), engines.session(family, off), questions(family))
    said = check(engines, family, in_decoder, merging(family, input=ENTRY))
    assert all(own.length < other.length for own, other in zip(said, whole, strict=True))


@pytest.mark.parametrize("family", ["llava_next", "llava_onevision"])
@pytest.mark.parametrize(
    "changes",
    [
        {"layout": "grid", "positions": "packed", "vision": {"layers": [2], "r": 11}},
        {"layout": "faithful", "positions": "packed"},
        {"layout": "faithful", "positions": "original"},
    ],
)
def test_layouts_and_positions(engines, family, changes):
    check(engines, family, merging(family, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"pixels": {"tau": 200}, "vision": None},
        {"input": {"method": "holitom", "keep": 0.4}, "vision": None},
        {"frames": {"layers": [2], "keep": 0.5}, "vision": {"layers": [3], "drop": 0.3}},
        {"method": "bipartite", "vision": GROUPS},
    ],
)
def test_other_stages_and_methods(engines, changes):
    check(engines, "qwen2_vl", merging("qwen2_vl", **changes))
