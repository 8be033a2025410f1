"""A schedule is resolved and checked without weights; what it says that is left is what the model yields."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from illava_cli.config import Config, MediaOptions, validate
from illava_cli.engine.session import Request
from illava_cli.errors import MergeError, ModelError, UsageError
from illava_cli.models import encoder
from illava_cli.models.families.anyres import tile_grid
from illava_cli.models.forms import InPlace
from illava_cli.models.planning import plan
from illava_cli.models.schedule import KINDS, MergePoint, Schedule, ScheduleShape, TowerBudget, windows
from illava_cli.trace import NEWLINE, TEXT, VISUAL
from tests.conftest import IMAGES_ONLY, WRITERS, clip, picture
from tests.schedules import SCHEDULES

TILES = ScheduleShape("LLaVA-OneVision", "paper", 26, 28, tile_tokens=729)
GROUPS = ScheduleShape("Qwen2-VL", "qwen2-vl", 32, 28, tile_tokens=None, rope_axes=3)
SHAPES = {"tiles": TILES, "groups": GROUPS}


def planned(shape, kind="image", **fields) -> Schedule:
    config = validate(Config, {"preset": "off", **fields}, "test")
    return plan(config.reduction_for("llava_onevision"), shape, kind)


def test_the_paper():
    schedule = plan(Config(preset="paper").reduction_for("llava_onevision"), TILES, "image")
    assert schedule.tower.of(729) == {3: 92, 4: 92, 5: 92, 6: 92}
    assert schedule.after_tower(729) == schedule.after_input(729) == 361
    assert schedule.decoder == ((2, MergePoint(253 / 361, queries="visual-literal")),)
    assert schedule.decoder[0][1].kept(361) == 253
    assert (schedule.layout, schedule.packed, schedule.authors) == ("grid", False, False)
    assert schedule.in_tower(729, 26).scored is None


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_medium_has_its_own(kind):
    reduction = Config(preset="auto").reduction_for("llava_onevision")
    layers = {"image": ((5, 6, 7, 8), 8), "video": ((3, 4, 5, 6), 2)}[kind]
    schedule = plan(reduction, TILES, kind)
    assert (schedule.tower.layers, schedule.decoder[0][0]) == layers


def test_off_does_nothing():
    schedule = planned(TILES)
    assert schedule == Schedule()
    assert not schedule.reduces
    assert schedule.after_input(729) == 729


def test_shares_of_groups_by_hand():
    # a fifth of 36 is 7, of the 29 left 5; kept over both layers 36 * 0.64 = 23
    assert TowerBudget("drop", (1, 3), (0.2, 0.2)).of(36) == {1: 7, 3: 5}
    assert TowerBudget("keep", (1, 3), (0.8, 0.8)).of(36) == {1: 7, 3: 6}
    assert TowerBudget("keep", (1,), (0.01,)).of(3) == {1: 2}


def test_a_method_is_for_the_stages_that_it_has_a_meaning_for():
    stages = {"vision": {"layers": [1], "r": 9}, "llm": {"layers": [2], "keep": 0.5}, "layout": "faithful"}
    fastv = planned(TILES, method="fastv", **stages)
    assert fastv.tower is None
    assert fastv.decoder == ((2, MergePoint(0.5, "fastv", "last")),)
    prumerge = planned(TILES, method="prumerge", **stages)
    assert (prumerge.tower, prumerge.decoder, prumerge.input.method) == (None, (), "prumerge")
    assert prumerge.after_input(729) is None


def test_a_method_of_frames_needs_layers_before_which_they_merge():
    """What stands still leaves by no method: of `turbo` nothing is left for `runs`."""
    still = {"still": 3, "still_frames": 3}
    assert planned(GROUPS, "video", frames=still).reduces
    assert not planned(GROUPS, "video", frames=still, method="runs").reduces
    merging = planned(GROUPS, "video", frames=still | {"layers": [-1], "keep": 0.5}, method="alike")
    assert (merging.frames.method, merging.frames.still) == ("alike", 3)


@pytest.mark.parametrize(
    ("fields", "reduces"),
    [
        ({"vision": {"layers": [1], "r": 0}}, False),
        ({"llm": {"layers": [1], "keep": 1}}, False),
        ({"llm": {"layers": [1, 2], "keep": [1, 0.9]}}, True),
        ({"input": {"keep": 0.5}, "layout": "faithful"}, True),
    ],
)
def test_whether_anything_is_done(fields, reduces):
    assert planned(TILES, **fields).reduces == reduces


WRONG = {
    "a layer of the tower that is not there": (
        "tiles",
        {"vision": {"layers": [26], "r": 1}},
        "layers 0 to 25",
    ),
    "a decoder layer that is not there": ("tiles", {"llm": {"layers": [28], "keep": 0.5}}, "1 to 27"),
    "before the first layer": ("groups", {"llm": {"layers": [0], "keep": 0.5}}, "out of range"),
    "more than there is": ("tiles", {"vision": {"layers": [1, 2], "r": [700, 29]}}, "29 of the 29 tokens"),
    "no square": ("tiles", {"vision": {"layers": [1], "r": 9}}, "no square grid.*676 or 729"),
    "a grid of groups": ("groups", {"vision": {"layers": [1], "drop": 0.1}}, "needs square tiles: Qwen2-VL"),
    "r of groups": ("groups", {"vision": {"layers": [1], "r": 9}}, "give vision.drop"),
    "shares of a tile": ("tiles", {"vision": {"layers": [1], "drop": 0.1}}, "give vision.r"),
    "two shares": ("groups", {"vision": {"layers": [1], "drop": 0.1, "keep": 0.9}}, "say the same thing"),
    "all dropped": ("groups", {"vision": {"layers": [1], "drop": 1}, "layout": "faithful"}, "no token"),
    "none kept": ("groups", {"vision": {"layers": [1], "keep": 0}, "layout": "faithful"}, "no token"),
    "no budget": ("tiles", {"vision": {"layers": [1]}}, "vision.r is missing"),
    "a layer twice": ("tiles", {"vision": {"layers": [1, 1], "r": 9}}, "named twice"),
    "a budget too many": ("tiles", {"llm": {"layers": [1], "keep": [0.5, 0.5]}}, "2 values for 1 layers"),
    "nothing kept": ("tiles", {"llm": {"layers": [1], "keep": 0}}, "at least one token"),
    "authors' queries": (
        "tiles",
        {"variant": "authors", "llm": {"layers": [1], "keep": 0.5, "queries": "visual"}},
        "set queries: last",
    ),
    "places of a grid": ("tiles", {"vision": {"layers": [1], "r": 53}, "positions": "original"}, "no places"),
    "packed groups": ("groups", {"positions": "packed"}, "not for M-RoPE"),
    "input in a grid": ("tiles", {"input": {"keep": 0.5}}, "set layout: faithful"),
    "input without a share": ("tiles", {"input": {}, "layout": "faithful"}, "input.keep is missing"),
    "an unknown method": ("tiles", {"method": "ilava"}, "unknown method 'ilava'.*illava"),
    "a method of another stage": ("tiles", {"vision": {"method": "fastv", "layers": [1], "r": 9}}, "for llm"),
    "sizes that a method has none of": (
        "tiles",
        {"vision": {"layers": [1], "r": 53, "proportional": True}},
        "not defined for 'illava'",
    ),
    "pixels in a grid": ("tiles", {"pixels": {}}, "pixels: .*set layout: faithful"),
    "pixels of frames that merge": (
        "groups",
        {"pixels": {}, "frames": {"layers": [2], "keep": 0.5}, "layout": "faithful"},
        r"set frames.layers: \[-1\], or pixels: null",
    ),
    "no patch": ("groups", {"pixels": {"keep": 0}, "layout": "faithful"}, "something has to be seen"),
    "a share of frames nowhere": ("groups", {"frames": {"keep": 0.5}}, "set frames.layers"),
    "still frames that nothing calls still": ("groups", {"frames": {"still_frames": 2}}, "set frames.still"),
    "still frames that nothing calls still, by a method": (
        "groups",
        {"frames": {"still_frames": 2}, "method": "runs"},
        "set frames.still",
    ),
    "a share of frames nowhere, by a method": (
        "groups",
        {"frames": {"still": 3, "keep": 0.5}, "method": "runs"},
        "set frames.layers",
    ),
    "no frame": ("groups", {"frames": {"layers": [-1], "keep": 0}}, "at least one frame has to stay"),
    "a share of frames missing": ("groups", {"frames": {"layers": [2]}}, "frames.keep is missing"),
    "frames at a layer that is not there": (
        "tiles",
        {"frames": {"layers": [26], "keep": 0.5}},
        "frames.layers: 26 .* 0 to 25",
    ),
    "frames behind tokens": (
        "tiles",
        {"frames": {"layers": [3], "keep": 0.5}, "vision": {"layers": [2], "r": 53}},
        "name layers up to 2",
    ),
    "frames at a layer twice": ("tiles", {"frames": {"layers": [2, 2], "keep": 0.5}}, "named twice"),
    "frames by tokens": (
        "tiles",
        {"frames": {"method": "evs", "layers": [2], "keep": 0.5}},
        r"frames.method: 'evs' is for input only \(here: alike, early-tom, runs\)",
    ),
    "tokens by frames": (
        "tiles",
        {"input": {"method": "alike", "keep": 0.5}, "layout": "faithful"},
        "input.method: 'alike' is for frames only",
    ),
    "an unknown way of frames": (
        "tiles",
        {"frames": {"method": "alikes", "layers": [2], "keep": 0.5}},
        "unknown method 'alikes'.*alike",
    ),
    "a clip without a share": ("tiles", {"input": {"method": "evs"}}, "which share 'evs' keeps"),
    "nothing of a clip": ("tiles", {"input": {"method": "evs", "keep": 0}}, "at least one token"),
    "a method for clips alone": ("groups", {"method": "vidcom2"}, "which share 'vidcom2' keeps"),
    "frames whose tokens choose": (
        "tiles",
        {"frames": {"layers": [2], "keep": 0.5}, "input": {"method": "prumerge"}, "layout": "faithful"},
        "prumerge finds its own number of tokens: set input.keep",
    ),
    "a guide that shows nothing": ("tiles", {"guide": {"keep": 0}}, "something has to be seen"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_impossible_schedule_is_refused_without_weights(name):
    shape, fields, said = WRONG[name]
    with pytest.raises(UsageError, match=said):
        planned(SHAPES[shape], "video", **fields)


def test_a_clip_has_stages_that_an_image_has_not():
    fields = {"input": {"method": "evs", "keep": 0.5}, "frames": {"layers": [-1, 2, 4], "keep": 0.5}}
    image, video = (planned(GROUPS, kind, **fields) for kind in KINDS)
    assert not image.reduces
    assert (video.input, video.clip.method, video.frames.pixels) == (None, "evs", 0.5)
    assert video.frames.of(11) == {2: 6, 4: 3}
    assert video.frames_left(130) == [11, 11, 11]  # of windows of 43, 43 and 44
    assert planned(GROUPS, "video", input={"method": "evs", "keep": 0.3}).clip_kept(11) == 3
    assert planned(GROUPS, "video").clip_kept(11) is None
    assert planned(GROUPS, "video").clip_kept(11, most=4) == 4
    assert planned(GROUPS, "video", **fields).clip_kept(11, most=4) == 4


def test_windows_are_as_even_as_can_be():
    assert windows(64) == [64]
    assert windows(65) == [32, 33]
    assert windows(130) == [43, 43, 44]
    assert windows(0) == []


SIZES = [(80, 80), (200, 150), (50, 330), (901, 60), (500, 470), (1, 1), (84, 85)]
INPUT = ("layout=faithful", "input={method: illava, keep: 0.37}")


@pytest.mark.parametrize("name", [*SCHEDULES, "off", "input"])
def test_the_model_yields_what_the_schedule_says_of_a_bare_size(name, open_session):
    """Odd sizes, alone and among others, tiled and not, and clips of odd lengths."""
    for family in WRITERS if name in ("off", "input") else [SCHEDULES[name][0]]:
        settings = {"off": ("preset=off",), "input": ("preset=off", *INPUT)}.get(name) or SCHEDULES[name][1]
        session = open_session(family, *settings)
        geometry = session.family.geometry
        for index, (width, height) in enumerate(SIZES):
            sizes = [(height, width), (60, 90)][: 1 + index % 2]
            frames = [] if family in IMAGES_ONLY else [1 + index % 3]
            options, alone = session.config.media, session.config.media.tiles(len(sizes))
            known = [geometry("image", size, options=options, alone=alone) for size in sizes]
            known += [geometry("video", (height, width), frames=n) for n in frames]
            images = [picture(w, h) for h, w in sizes]
            videos = [clip(n, width, height) for n in frames]
            prepared = session.prepare(Request("What?", images, videos))
            media = [one.pixels for one in prepared.slots.values()]
            assert [(m.kind, m.form, m.shape) for m in media] == [(k.kind, k.form, k.shape) for k in known]
            schedules = [session.schedules[pixels.kind] for pixels in media]
            encoded = encoder.encode(session.family, media, schedules)
            for medium, features in zip(known, encoded, strict=True):
                schedule = session.schedules[medium.kind]
                yielded = [int((features.kinds == kind).sum()) for kind in (VISUAL, NEWLINE)]
                expansion = session.family.tokens(medium, schedule)
                assert list(expansion) == yielded
                assert medium.form.candidates(expansion, schedule.authors) == int(features.rankable.sum())


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_decoder_layer_holds_what_the_schedule_says_of_bare_sizes(name, open_session):
    family, settings = SCHEDULES[name]
    session = open_session(family, *settings)
    session.features.clear()
    sizes, frames = [(75, 100), (140, 64)], [] if family in IMAGES_ONLY else [4]
    answer = session.ask(
        "Which?", [picture(w, h) for h, w in sizes], [clip(n, 96, 64) for n in frames], trace=True
    )
    alone = session.config.media.tiles(len(sizes))
    media = [session.family.geometry("image", size, alone=alone) for size in sizes]
    media += [session.family.geometry("video", (64, 96), frames=n) for n in frames]
    tokens = []
    for medium in media:
        schedule = session.schedules[medium.kind]
        expansion = session.family.tokens(medium, schedule)
        tokens.append((expansion.total, medium.form.candidates(expansion, schedule.authors)))
    text = int((answer.trace["kinds"] == TEXT).sum())
    merged = {layer: merge.anchor.shape[1] for layer, merge in answer.trace["llm"]}
    held, now = [], answer.usage.prompt_tokens
    for layer in range(6):
        now = merged.get(layer, now)
        held.append(now)
    assert session.schedules["image"].decoder_tokens(text, tokens, 6) == held
    assert (held[-1] < held[0]) == bool(session.schedules["image"].decoder)


def test_a_grid_that_is_pooled_away_keeps_a_row():
    """Few cells of a narrow image, whose pooled height would be none."""
    for size in ((34, 374), (374, 34)):
        grid = tile_grid(size, [[84, 84], [84, 336], [336, 84]], 84, 3, max_tiles=0.2)
        assert min(grid.out_height, grid.out_width) == 1


class SmallerThanItSays:
    def __init__(self, processor):
        self.processor, self.size = processor, processor.size

    def __call__(self, images, **options):
        smaller = [np.asarray(Image.fromarray(image).resize((112, 112))) for image in images]
        return self.processor(smaller, **options)


def test_a_processor_that_makes_another_grid_than_the_size_says_is_refused(open_session, monkeypatch):
    """Counts come from the size alone: they would be another picture's."""
    family = open_session("qwen2_vl", "preset=off", fresh=True).family
    own = family.image_processor
    monkeypatch.setattr(family, "image_processor", SmallerThanItSays(own))
    with pytest.raises(ModelError, match=r"made patches of \(1, 8, 8\), not \(1, 12, 8\)"):
        family.preprocess_image(picture(112, 168), MediaOptions(), True)


def test_a_layout_that_loses_a_token_is_an_error(open_session, monkeypatch):
    session = open_session("qwen2_vl", "preset=off", *INPUT, fresh=True)
    lay_out = InPlace.lay_out

    def short(*arguments):
        layout = lay_out(*arguments)
        return dataclasses.replace(layout, embeds=layout.embeds[1:], newline=layout.newline[1:])

    monkeypatch.setattr(InPlace, "lay_out", short)
    with pytest.raises(MergeError, match=r"\d+ tokens of the image are laid out .* the schedule says"):
        session.ask("What?", [picture(90, 60)])
