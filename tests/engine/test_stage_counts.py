"""What the stages leave is known from the pixels alone, and keeps its place."""

import pytest
import torch

from illava_cli.bench.flops import count
from illava_cli.bench.geometry import merged_counts, model_shape
from illava_cli.engine.request import Request
from illava_cli.models import encoder, schedule
from illava_cli.models.families.anyres import rescaled
from illava_cli.trace import NEWLINE, VISUAL
from tests.conftest import clip
from tests.stages import COMMON, STAGES, VIDEO, film, page, settings_of, under

REQUEST = Request("This <image> and <video>?", [page(150, 120, 1)], [film(7, 128, 96, 1)])
ASKED = [("llava_onevision", name) for name in STAGES]
ASKED += [("qwen2_5_vl", name) for name in ("pixels, tower", "frames", "clip, tower", "still", "budget")]
ASKED += [("qwen3_vl", name) for name in ("pixels, tower", "frames, early", "clip, pixels")]
ASKED += [(family, "clip, tower") for family in ("qwen2_vl", "qwen3_5", "internvl", "gemma4")]
ASKED += [(family, "still") for family in ("qwen2_vl", "internvl", "gemma4")]


@pytest.fixture
def staged(open_session):
    def get(family, name):
        return under(open_session(family, "preset=off"), *settings_of(name, family))

    return get


def cells_of(way, layout):
    """The cell at which each decoder token stands, as the trace tells."""
    cell = torch.arange(way.tokens)
    for _, merge in sorted(way.merges.items()):
        assert merge.slot.shape[1] == len(cell)
        cell = cell[merge.anchor[0]]
    assert layout.slot.shape[1] == len(cell)
    return cell[layout.anchor[0]]


@pytest.mark.parametrize(("family", "name"), ASKED)
def test_counts_and_places(family, name, staged):
    session = staged(family, name)
    model = session.family
    media = [one.pixels for one in session.prepare(REQUEST).slots.values()]
    schedules = [session.rules.schedule(pixels) for pixels in media]
    encoded = encoder.encode(model, media, schedules, trace=True)
    for pixels, planned, features in zip(media, schedules, encoded, strict=True):
        newline = features.kinds == NEWLINE
        yielded = [int((features.kinds == kind).sum()) for kind in (VISUAL, NEWLINE)]
        assert list(model.tokens(pixels, planned)) == yielded == [features.visual, features.newlines]
        # two survivors may stand in one cell of a pooled grid
        assert (features.place.diff() >= (family != "llava_onevision")).all()
        assert features.way.tokens == pixels.segments * pixels.tokens
        place, cell = features.place[~newline], cells_of(features.way, features.layout)[~newline]
        if pixels.entered is not None:
            assert pixels.entered.flatten()[cell].all()
        if family != "llava_onevision":
            assert torch.equal(place, cell)
        elif pixels.kind == "video":
            side, pooled = pixels.form.side, pixels.form.pooled
            assert torch.equal(place // pooled**2, cell // pixels.tokens)
            row, column = (cell % pixels.tokens) // side, cell % pixels.tokens % side
            grid = rescaled(row, side, pooled) * pooled + rescaled(column, side, pooled)
            assert torch.equal(place % pooled**2, grid)


@pytest.mark.parametrize(("family", "name"), ASKED)
def test_the_record_and_the_operations_say_the_same(family, name, staged):
    session = staged(family, name)
    model, unit = session.family, session.family.patches_per_token
    answer = session.ask("This <image> and <video>?", REQUEST.images, REQUEST.videos, trace=True)
    media = [one.pixels for one in session.prepare(REQUEST, fresh=True).slots.values()]
    visual, video = answer.usage.visual, media[1]
    assert visual.patches == unit * sum(sum(pixels.entering) for pixels in media)
    assert visual.patches + visual.left_out == unit * sum(p.segments * p.tokens for p in media)
    assert visual.frames_in == video.segments
    assert visual.frames_kept == sum(session.schedules["video"].frames_left(len(video.shown)))
    kinds = answer.trace["kinds"][0]
    assert visual.llm_in == int((kinds == VISUAL).sum()) == visual.llm_kept
    assert visual.newlines_in == int((kinds == NEWLINE).sum())
    if (budget := session.config.media.video_budget) is not None:
        assert len(answer.trace["where"][1]) == budget

    counts = merged_counts(session, media, answer, 1)
    assert sum(one.segments * one.patches[0] for one in counts.media) == visual.patches
    left = sum(one.segments_at(len(one.layers)) * one.patches[1] for one in counts.media)
    assert left == visual.vision_kept
    assert counts.decoder[0] == answer.usage.prompt_tokens == len(kinds)
    flops = count(model_shape(model), counts)
    assert len(flops.tower) == model.tower_layers
    assert min(flops.tower) > 0


@pytest.mark.parametrize("family", VIDEO)
def test_a_clip_is_looked_at_in_windows(family, open_session, monkeypatch):
    monkeypatch.setattr(schedule, "WINDOW", 4)
    session = under(open_session(family, "preset=off"), *COMMON, "input={method: evs, keep: 0.5}")
    (pixels,) = [
        one.pixels for one in session.prepare(Request("?", videos=[clip(18, 56, 56)])).slots.values()
    ]
    assert len(schedule.windows(pixels.segments)) > 2
    halved = session.ask("?", videos=[clip(18, 56, 56)]).usage.visual
    assert halved.llm_in == round((halved.unmerged - halved.newlines_in) / 2)
    budget = under(session, *COMMON, "media.video_budget=7", "frames={layers: [1], keep: 0.5}")
    visual = budget.ask("?", videos=[clip(18, 56, 56)]).usage.visual
    assert visual.llm_in + visual.newlines_in == 7  # fewer than there are frames, or little more
    assert visual.frames_kept == sum(max(1, round(n / 2)) for n in schedule.windows(pixels.segments))
