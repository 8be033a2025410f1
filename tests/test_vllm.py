"""What goes to vLLM and comes from it, where vLLM itself is not asked: tests/in_vllm has the rest."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from illava_cli.cli.engines import tell_changes
from illava_cli.config import resolve
from illava_cli.config.options import MediaOptions
from illava_cli.engine.request import Request
from illava_cli.errors import UsageError
from illava_cli.models.encoder import encode
from illava_cli.models.schedule import Schedule
from illava_cli.models.without_decoder import family_of_files, family_that_sees
from illava_cli.vllm import MODELS, VERSIONS, version
from illava_cli.vllm.item import About, as_fields, as_pixels
from illava_cli.vllm.placing import advances, as_channels, counts, of_channels, offsets
from illava_cli.vllm.schedules import before_decoder, note
from illava_cli.vllm.wishes import ALONE, Wishes, wish_of
from tests.conftest import clip, picture

MEDIA = {
    "image": Request("x", (picture(84, 84, 1),)),
    "two": Request("x", (picture(84, 84, 1), picture(112, 56, 2))),
    "video": Request("x", (), (clip(6, 84, 84),)),
}
CASES = [(family, name) for family in MODELS for name in MEDIA if (family, name) != ("llava_next", "video")]


def test_the_pins_say_the_same():
    from tests.test_versions import PROJECT

    (wanted,) = PROJECT["optional-dependencies"]["vllm"]
    assert wanted == f"vllm>={VERSIONS[0]},<0.{int(VERSIONS[0].split('.')[1]) + 1}"


@pytest.mark.parametrize("found", [None, "0.31.2", "0.33.0"])
def test_an_unknown_version_is_refused_in_a_line(found, monkeypatch):
    monkeypatch.setattr(version, "installed", lambda: found)
    with pytest.raises(UsageError, match="not installed" if found is None else found) as error:
        version.check_version()
    assert "\n" not in str(error.value)


def test_what_merges_in_the_decoder_is_kept_before_it(open_session):
    session = open_session("llava_onevision", "preset=auto", "vision=null", "llm={layers: [2, 3], keep: 0.5}")
    for schedule in session.schedules.values():
        changed = before_decoder(schedule)
        assert changed.decoder == ()
        assert math.isclose(changed.input.keep, 0.25)
        assert changed.input.method == "illava"
    assert "25% of an image's and 25% of a video's visual tokens" in note(session.schedules)
    assert note({"image": Schedule()}) is None


def test_a_method_of_the_decoder_alone_prunes_before_it(open_session):
    session = open_session("qwen2_vl", "preset=auto", "llm={layers: [2], keep: 0.5}", "method=fastv")
    assert before_decoder(session.schedules["image"]).input.method == "attention-prune"


def test_of_a_grid_survivors_then_keep_their_own_places(open_session):
    session = open_session(
        "llava_onevision", "preset=off", "layout=grid", "positions=packed", "llm={layers: [2], keep: 0.5}"
    )
    changed = before_decoder(session.schedules["image"])
    assert (changed.layout, changed.packed, changed.input.keep) == ("faithful", True, 0.5)


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_medium_comes_back_as_it_was_sent(family, name, checkpoints, open_session):
    """Through tensors and JSON, and a tower without a decoder: the features of the whole model."""
    session = open_session(family, "preset=off")
    seeing = family_that_sees(Path(checkpoints(family)), torch.device("cpu"), torch.float32)
    alone = name == "image"
    for slot, one in session.prepare(MEDIA[name], fresh=True).slots.items():
        frame = MEDIA[name].images[slot.index] if slot.kind == "image" else None
        size = (frame.height, frame.width) if frame is not None else (84, 84)
        about = About(
            slot.kind, size, 1 if frame is not None else 6, alone, "{}", False, tuple(one.pixels.times)
        )
        sent = as_fields(one.pixels, about, [1], [2])
        assert About.unpacked(sent["about"]) == about
        pixels = as_pixels(seeing, sent["values"], about, sent["entered"], MediaOptions())
        (theirs,), (ours,) = (
            encode(f, [p], [Schedule()]) for f, p in ((seeing, pixels), (session.family, one.pixels))
        )
        torch.testing.assert_close(theirs.embeds, ours.embeds, atol=0, rtol=0)


BLANK = Request("x", (Image.new("RGB", (112, 112), "white"),))
BLANK.images[0].paste(picture(40, 40, 3), (30, 20))
TILED, GROUPS = "vision={layers: [2], r: 11}", "vision={layers: [2], drop: 0.3}"
SCHEDULES = {
    "whole": ["preset=off"],
    "merged": ["preset=off", "layout=faithful", "{tower}"],
    "packed": ["preset=off", "layout=faithful", "positions=packed", "{tower}"],
    "grid": ["preset=off", "layout=grid", "{tower}"],
    "pixels": ["preset=off", "layout=faithful", "pixels={tau: 0}"],
    "input": ["preset=off", "layout=faithful", "input={method: illava, keep: 0.4}"],
    "budget": ["preset=off", "layout=faithful", "media.video_budget=20"],
    "frames": ["preset=off", "layout=faithful", "frames={layers: [-1], keep: 0.5}"],
    "clip": ["preset=off", "layout=faithful", "input={method: holitom, keep: 0.4}"],
}


def fits(family: str, schedule: str) -> bool:
    if schedule in ("grid", "packed"):
        return family.startswith("llava")
    apart = ("internvl", "qwen3_vl", "qwen3_vl_moe")  # text between frames
    return family not in apart or schedule not in ("budget", "clip")


@pytest.mark.parametrize("name", ["image", "blank", "two", "video"])
@pytest.mark.parametrize(("family", "schedule"), [(f, s) for f in MODELS for s in SCHEDULES if fits(f, s)])
def test_counts_and_positions_are_known_before_the_tower_runs(family, schedule, name, open_session):
    """Against the features that come out of it, with text before and behind the medium."""
    if (family, name) == ("llava_next", "video"):
        pytest.skip("takes images only")
    tower = TILED if family.startswith("llava") else GROUPS
    session = open_session(
        family, *(one.format(tower=tower) if "{tower}" in one else one for one in SCHEDULES[schedule])
    )
    own, left_out = session.family, 0
    for one in session.prepare(BLANK if name == "blank" else MEDIA[name], fresh=True).slots.values():
        planned = before_decoder(session.rules.schedule(one.pixels))
        (features,) = encode(own, [one.pixels], [planned])
        left_out += features.left_out
        tokens = counts(own, one.pixels, planned)
        assert sum(tokens) == len(features.embeds)
        advance, run = advances(own, one.pixels, planned, tokens), features.runs[0]
        found = offsets(own, features, planned)
        if planned.packed:
            assert advance == tokens
            assert found[:, 0].tolist() == list(range(len(found)))
            continue
        assert len(advance) == len(features.runs)
        theirs = own.positions(5 + run.length + 2, [(5, run)])
        assert theirs[0, -2:].tolist() == [5 + advance[0], 6 + advance[0]]
        place = features.place % run.length if features.form.apart else features.place
        assert (found == theirs[:, 5 : 5 + run.length].T[place] - 5).all()
    assert (left_out > 0) == (schedule == "pixels" and name == "blank") or schedule in ("pixels", "frames")


@pytest.mark.parametrize("family", ["internvl", "qwen3_vl"])
@pytest.mark.parametrize("schedule", ["budget", "clip"])
def test_what_decides_over_a_clip_is_refused_where_text_stands_between(family, schedule, open_session):
    session = open_session(family, *SCHEDULES[schedule])
    (one,) = session.prepare(MEDIA["video"], fresh=True).slots.values()
    with pytest.raises(UsageError, match="text stands between the frames of this model") as error:
        counts(session.family, one.pixels, session.rules.schedule(one.pixels))
    assert "\n" not in str(error.value)


def test_a_guide_is_refused():
    with pytest.raises(UsageError, match="leave the stage guide out"):
        before_decoder(replace(Schedule(), guide=object()))


def test_what_vllm_does_otherwise_is_said(checkpoints):
    said = []
    settings = ["preset=off", "layout=faithful", "llm={layers: [2], keep: 0.5}"]
    tell_changes(resolve(checkpoints("llava_onevision"), settings=settings, environ={}), said.append)
    (line,) = said
    assert "50%" in line
    tell_changes(resolve(checkpoints("llava_onevision"), settings=["preset=off"], environ={}), said.append)
    assert said == [line]


def test_offsets_are_exact_in_bfloat16():
    offsets = torch.arange(0, 65_536, 7)[:, None].expand(-1, 3)
    channels = as_channels(offsets, torch.zeros(1, dtype=torch.bfloat16))
    assert (of_channels(channels) == offsets).all()


def test_a_family_of_files_counts_as_the_loaded_one_does(checkpoints, open_session):
    for family in MODELS:
        session, files = open_session(family, "preset=auto"), family_of_files(Path(checkpoints(family)))
        assert files.schedule_shape == session.family.schedule_shape
        assert files.device.type == "meta"
        for size in ((84, 84), (60, 200), (300, 90)):
            for schedule in session.schedules.values():
                geometry = files.geometry("image", size)
                assert files.tokens(geometry, schedule) == session.family.tokens(geometry, schedule)


@pytest.mark.parametrize(
    ("kwargs", "why"),
    [
        ({"keep": 2}, "keep"),
        ({"preset": "no such"}, "preset"),
        ({"rubbish": 1}, "there is no rubbish"),
        ({"fps": 1}, "media_io_kwargs"),
        ({"min_pixels": 900, "max_pixels": 100}, "min_pixels"),
    ],
)
def test_a_wish_that_cannot_be(kwargs, why):
    with pytest.raises(UsageError, match=why):
        wish_of(kwargs)


def test_a_wish_has_one_form():
    assert wish_of({"keep": 0.5, "method": "illava", ALONE: True}) == wish_of(
        {"method": "illava", "keep": 0.5}
    )
    assert wish_of({ALONE: False}) == "{}"


def test_wishes_are_kept_apart(checkpoints):
    family = family_of_files(Path(checkpoints("llava_onevision")))
    wishes = Wishes(family, resolve(checkpoints("llava_onevision"), settings=["preset=off"], environ={}))
    geometry = family.geometry("image", (84, 84))
    found = {}
    for wish in ({}, {"keep": 0.5}, {"keep": 0.25}):
        asked = wishes.of(wish_of(wish))
        assert asked is wishes.of(wish_of(wish))
        found[json.dumps(wish)] = family.tokens(geometry, asked.rules.schedules["image"]).total
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert len(set(found.values())) == 3
