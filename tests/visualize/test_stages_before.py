"""What does not enter the tower, and frames that merge, on the page."""

import numpy as np
import pytest
import torch

from illava_cli.trace import ENTER
from illava_cli.visualize.attention import heat
from illava_cli.visualize.payload import LayerSeconds, _seconds
from illava_cli.visualize.places import places
from illava_cli.visualize.stages import DROPPED, LEFT_OUT, stages
from illava_cli.visualize.way import Way
from tests.conftest import picture
from tests.stages import STAGES, film, page, settings_of, under

ASKED = [("llava_onevision", name) for name in STAGES]
ASKED += [("qwen2_5_vl", "pixels, tower"), ("qwen3_vl", "still"), ("internvl", "clip, tower")]


@pytest.fixture
def traced(open_session):
    def get(family, name, *media, trace="attention"):
        session = under(open_session(family, "preset=off"), *settings_of(name, family))
        answer = session.ask("What is it?", *media, trace=trace)
        where, way = places(answer.trace), Way(answer.trace)
        return session, answer, way, where, stages(way, where.padding)

    return get


@pytest.mark.parametrize(("family", "name"), ASKED)
def test_every_cell_is_accounted_for(traced, family, name):
    media = [page(150, 120, 1)], [film(6, 128, 96, 1)]
    session, answer, way, where, found = traced(family, name, *media)
    unit, usage = session.family.patches_per_token, answer.usage.visual
    assert len(where) * unit == usage.patches + usage.left_out
    for stage in found:
        tokens = stage.tokens
        assert sum(tokens.counts().values()) == len(where)
        assert (tokens.slot[tokens.anchor] == np.arange(len(tokens))).all()
        sums = np.bincount(tokens.slot[tokens.slot >= 0], tokens.weight[tokens.slot >= 0])
        assert sums == pytest.approx(np.ones(len(tokens)))
        assert tokens.values is None or len(tokens.values) == len(tokens)
    entering = [len(stage.tokens) for stage in found if stage.name in ("tower in", "pixels")]
    assert entering[-1] * unit == usage.patches
    tower = [stage for stage in found if stage.where == "tower"]
    assert len(tower[-1].tokens) * unit == usage.vision_kept
    assert len(found[-1].tokens) == usage.llm_in
    out = found[-1].tokens.slot == LEFT_OUT
    assert out.sum() + (where.padding & (entering_of(way) == DROPPED)).sum() == usage.left_out // unit
    maps = [m for m in heat(way, where.padding) if m.where == "tower"]
    assert [m.layer for m in maps] == list(range(session.family.tower_layers))
    assert all(np.isnan(m.values[out]).all() for m in maps)


def entering_of(way):
    """(P,) the token of each cell that enters, -1 where none does."""
    if (-1, ENTER) not in way.steps:
        return np.zeros(way.in_tower[0].slot.shape[1])
    return way.in_tower[way.steps.index((-1, ENTER)) + 1].slot[0].numpy()


def test_a_token_tells_the_frames_that_it_came_from(traced):
    """Pairs of frames are alike, so that these merge; what comes of a cell is at its place."""
    _, _, _, where, found = traced("qwen2_vl", "frames", [], [film(12, 112, 112, 1)])
    names = [stage.name for stage in found]
    assert names == ["tower in", "pixels", "frames, layer 2", "LLM in"]
    steps, cells = 6, len(where) // 6
    entered, merged = found[1].tokens, found[2].tokens
    assert len(entered) == round(steps * 0.8) * cells
    assert len(merged) == 3 * cells
    for token in range(len(merged)):
        members = np.flatnonzero(merged.slot == token)
        assert len(set(members % cells)) == 1
        assert merged.anchor[token] == members[0]
        assert (entered.slot[members] >= 0).all()
    assert max(np.bincount(merged.slot[merged.slot >= 0])) > 1
    assert (merged.slot == LEFT_OUT).sum() == len(where) - len(entered)


def test_what_tokens_receive_is_of_the_last_layer_before_the_next_step(traced):
    _, answer, _, _, found = traced("qwen2_vl", "frames, early", [], [film(12, 112, 112, 1)])
    watched = answer.trace["vision_attention"][0]
    layers = {"tower in": None, "frames, layer 0": 0, "frames, layer 1": 2, "tower, layer 2": 4}
    layers |= {"tower, layer 4": 5}
    for stage in found:
        if stage.where == "tower":
            layer = layers[stage.name]
            values = stage.tokens.values
            assert (values is None) == (layer is None)
            assert values is None or torch.equal(torch.from_numpy(values), watched[layer].float())


def test_a_layer_that_merges_last_has_nothing_behind_it(open_session):
    session = under(
        open_session("qwen2_vl", "preset=off"),
        "preset=off",
        "layout=faithful",
        "vision={layers: [5], drop: 0.3}",
    )
    answer = session.ask("?", [picture(112, 112)], trace="attention")
    where = places(answer.trace)
    first, merged, _ = stages(Way(answer.trace), where.padding)
    assert len(first.tokens.values) == len(first.tokens)
    assert merged.tokens.values is None


def test_the_time_of_layers_is_that_of_the_last_stage_before_them(traced):
    """What did not enter, and what was done to a clip, took none of it."""
    *_, found = traced("llava_onevision", "clip, tower", [], [film(6, 112, 112, 1)])
    names = [stage.name for stage in found]
    assert names == ["tower in", "frames, layer 1", "tower, layer 2", "tower, layer 4", "pooled", "clip"]
    seconds = LayerSeconds([1, 2, 4, 8, 16, 32], [1] * 6)
    assert [_seconds(found, n, seconds) for n in range(len(found))] == [1, 2, 12, 48, None, 6]
