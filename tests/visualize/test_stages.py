"""Every cell is accounted for at every stage, for every family, layout and kind of medium."""

import contextlib
import dataclasses
from functools import reduce

import numpy as np
import pytest
import torch

from illava_cli.engine import runner
from illava_cli.models import encoder
from illava_cli.models.families.anyres import coarser
from illava_cli.reduction import Merge
from illava_cli.trace import NEWLINE
from illava_cli.visualize.attention import PARTS, heat, shares
from illava_cli.visualize.places import places
from illava_cli.visualize.stages import PADDING, stages
from illava_cli.visualize.way import Way
from tests.conftest import clip, picture
from tests.schedules import COMMON, SCHEDULES

MEDIA = {
    "tiles and padding": ([(170, 115)], 0),
    "interpolated": ([(250, 245)], 0),
    "several images": ([(80, 40), (60, 120)], 0),
    "image and video": ([(60, 140)], 3),
}
CASES = [
    *((name, "tiles and padding") for name in ("next grid, paper", "llava grid, paper", "qwen, paper")),
    *((name, "interpolated") for name in ("llava faithful, original", "llava all media together")),
    *((name, "several images") for name in ("next faithful, original", "llava grid, authors")),
    *((name, "image and video") for name in ("llava grid, paper", "llava faithful, packed")),
    *((name, "image and video") for name in ("llava grid, authors", "qwen, authors", "qwen2.5, windows")),
    *((name, "image and video") for name in ("qwen3, early", "qwen3.5, paper", "internvl, packed")),
    ("gemma4, paper", "image and video"),
]


def ask(session, media, trace="attention", **options):
    sizes, frames = MEDIA[media]
    images = [picture(*size, seed=i) for i, size in enumerate(sizes)]
    videos = [clip(frames, 90, 60)] if frames else []
    return session.ask("What is it?", images, videos, trace=trace, **options)


@pytest.fixture
def traced(open_session):
    """A traced answer, its way, its stages and places."""

    def get(schedule, media):
        family, settings = SCHEDULES[schedule]
        session = open_session(family, *settings)
        answer = ask(session, media)
        where = places(answer.trace)
        way = Way(answer.trace)
        return session, answer, way, stages(way, where.padding), where

    return get


@pytest.mark.parametrize(("schedule", "media"), CASES)
def test_every_cell_is_accounted_for(traced, schedule, media):
    session, answer, _, found, where = traced(schedule, media)
    unit, usage = session.family.patches_per_token, answer.usage.visual
    assert len(where) * unit == usage.patches
    for stage in found:
        tokens = stage.tokens
        assert sum(tokens.counts().values()) == len(where)
        assert set(tokens.slot[tokens.slot >= 0]) == set(range(len(tokens)))
        assert (tokens.slot[tokens.anchor] == np.arange(len(tokens))).all()
        assert where.padding[tokens.slot == PADDING].all()
        sums = np.bincount(tokens.slot[tokens.slot >= 0], tokens.weight[tokens.slot >= 0])
        joins_newlines = "authors" in schedule and stage.where == "llm"
        assert (sums <= 1 + 1e-5).all()
        assert joins_newlines or sums == pytest.approx(np.ones(len(tokens)))
        assert (tokens.weight[tokens.slot < 0] == 0).all()
    by_name = {stage.name: len(stage.tokens) for stage in found}
    assert by_name["tower in"] * unit == usage.patches
    tower = [len(stage.tokens) for stage in found if stage.where == "tower"]
    assert tower[-1] * unit == usage.vision_kept
    assert len(tower) >= 3
    assert sorted(set(tower), reverse=True) == tower
    after = [len(stage.tokens) for stage in found if stage.where == "pool"] or tower[-1:]
    assert after[-1] == usage.llm_in
    if "authors" not in schedule:  # there a newline that took tokens in is one of the stage's
        assert len(found[-1].tokens) == usage.llm_kept


@pytest.mark.parametrize(("schedule", "media"), CASES)
def test_the_layout_is_what_the_model_does_to_features(open_session, monkeypatch, schedule, media):
    """Where nothing is interpolated, tokens are the weighted sums that the trace says, in their order."""
    family, settings = SCHEDULES[schedule]
    session = open_session(family, *settings)
    laid_out, entered = [], []
    lay_out, condensed = encoder.decoder_tokens, encoder.Encoding.condensed

    def remember(*arguments):
        laid_out.append(lay_out(*arguments))
        return laid_out[-1]

    def numbered(encoding, pixels, survivors):
        features = torch.randn(survivors.features.shape, dtype=torch.float64)
        entered.append(features)
        return condensed(encoding, pixels, dataclasses.replace(survivors, features=features))

    monkeypatch.setattr(encoder, "decoder_tokens", remember)
    monkeypatch.setattr(encoder.Encoding, "condensed", numbered)
    with contextlib.suppress(RuntimeError):  # the decoder takes no such numbers
        ask(session, media, trace=True)
    depth = session.family.tower_layers
    given = torch.cat([features.flatten(0, 1) for features in entered])
    start = 0
    for features in laid_out:
        behind = [merge for (layer, _), merge in sorted(features.way.merges.items()) if layer == depth]
        merge = reduce(Merge.then, [*behind, features.layout])
        own = given[start : start + merge.slot.shape[1]]
        start += len(own)
        expected = merge.apply(own[None])[0]
        visual = features.kinds != NEWLINE
        slots = merge.slot[merge.slot >= 0]
        bilinear = "layout=grid" in settings and len(slots) > visual.sum()
        if not bilinear:
            torch.testing.assert_close(features.embeds[visual].double(), expected[visual], atol=1e-6, rtol=0)
        assert torch.equal(torch.isin(torch.arange(len(visual)), slots), visual)
    assert start == len(given)


@pytest.mark.parametrize(
    "cells", [(27, 27, 14, 14), (19, 19, 10, 10), (54, 41, 39, 30), (5, 4, 5, 4), (9, 7, 1, 2)]
)
def test_a_pooled_cell_stands_for_the_cells_whose_centres_lie_in_it(cells):
    rows, columns, out_rows, out_columns = cells
    merge = coarser(*cells)
    for cell in range(rows * columns):
        row, column = divmod(cell, columns)
        expected = (row + 0.5) * out_rows // rows * out_columns + (column + 0.5) * out_columns // columns
        assert merge.slot[0, cell] == int(expected)
    assert (merge.slot[0, merge.anchor[0]] == torch.arange(out_rows * out_columns)).all()
    assert merge.apply(torch.ones(1, rows * columns)).allclose(torch.ones(1))


@pytest.mark.parametrize(
    "schedule",
    ["next grid, paper", "llava faithful, original", "qwen3, early", "qwen3.5, paper", "internvl, packed"],
)
def test_watching_changes_nothing(open_session, schedule):
    family, settings = SCHEDULES[schedule]
    session = open_session(family, *settings)
    plain = ask(session, "tiles and padding", trace=True, logits=True)
    watched = ask(session, "tiles and padding", trace="attention", logits=True)
    assert torch.equal(plain.logits, watched.logits)
    assert plain.trace["vision_attention"] == [{}]
    assert plain.trace["llm_attention"] == {}
    for (layer, merge), (other, same) in zip(plain.trace["llm"], watched.trace["llm"], strict=True):
        assert layer == other
        assert torch.equal(merge.slot, same.slot)


def test_nothing_is_kept_unless_asked(open_session, monkeypatch):
    """Not in the answer, and no scores, merges or layouts on the way."""
    family, settings = SCHEDULES["llava faithful, original"]
    session = open_session(family, *settings, fresh=True)
    kept = []

    def encoded(*arguments, **options):
        features = encoder.encode(*arguments, **options)
        kept.extend(features)
        return features

    monkeypatch.setattr(runner, "encode", encoded)
    answer = ask(session, "image and video", trace=False)
    assert answer.trace is None
    assert len(kept) == 2
    for features in kept:
        assert (features.way, features.layout) == (encoder.Way(), None)
    assert all(layer.self_attn.tap.scores is None for layer in session.family.text_model.layers[4:])
    ask(session, "image and video", trace="attention")
    assert kept[-1].way.attention
    assert all(
        entry.layout is None and not entry.way.attention for entry in session.features._entries.values()
    )


@pytest.mark.parametrize("schedule", ["llava faithful, original", "qwen2.5, windows", "next grid, paper"])
def test_heat_is_the_attention_of_each_layer(traced, schedule):
    session, _, way, found, where = traced(schedule, "tiles and padding")
    maps = list(heat(way, where.padding))
    tower = [m.layer for m in maps if m.where == "tower"]
    assert tower == list(range(session.family.tower_layers))
    assert [m.layer for m in maps if m.where == "llm"] == list(range(6))
    by_layer = {(m.where, m.layer): m.values for m in maps}
    first = by_layer["tower", 0]
    assert not np.isnan(first).any()
    gone = found[-1].tokens.slot < 0
    assert (np.isnan(by_layer["llm", 5]) == gone).all()
    # what ranked the first merge is what the layer received
    merge = session.reduction.vision.layers[0]
    assert found[0].tokens.values == pytest.approx(by_layer["tower", merge][found[0].tokens.anchor])


@pytest.mark.parametrize("schedule", ["llava faithful, original", "llava grid, authors", "qwen, paper"])
def test_shares_sum_to_one_and_are_the_softmax_of_the_last_row(open_session, schedule):
    family, settings = SCHEDULES[schedule]
    session = open_session(family, *settings)
    answer = ask(session, "several images", system="Answer in one word.")
    found = shares(Way(answer.trace))
    assert found["layers"] == list(range(6))
    for row in zip(*(found[name] for name in PARTS), strict=True):
        assert sum(row) == pytest.approx(1, abs=1e-5)
    assert min(found["system"]) > 0
    assert (max(found["other"]) > 1e-3) == (family == "llava_onevision")  # its newlines


def test_the_system_prompt_ends_where_the_users_words_begin(open_session):
    session = open_session("llava_onevision", *COMMON)
    lengths = {}
    for system in ("Be brief.", "Be brief. Be brief. Be brief."):
        for prompt in ("<image>What?", "What is <image>?"):
            answer = session.ask(prompt, [picture(30, 30)], system=system, trace=True)
            lengths[system, prompt] = answer.trace["system_tokens"]
            start = int((answer.trace["kinds"][0] == 1).nonzero()[0])
            assert int(answer.trace["where"][0][0]) == start
            assert (start == answer.trace["system_tokens"]) == prompt.startswith("<image>")
    assert len(set(lengths.values())) == 2
