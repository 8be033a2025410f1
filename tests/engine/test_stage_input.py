"""Odd media and settings under the stages: answered, or refused in one line that says what to do."""

import numpy as np
import pytest
import torch
from PIL import Image

from illava_cli.config import Config
from illava_cli.engine.request import Encoded, Request
from illava_cli.engine.shares import share_settings
from illava_cli.errors import MediaError, UsageError
from illava_cli.models import encoder
from illava_cli.trace import VISUAL
from tests.conftest import clip
from tests.media_files import write_clip
from tests.processes import ROOT
from tests.stages import COMMON, VIDEO, film, noise, page, settings_of, storm, under
from tests.tolerances import FLOAT32

SAMPLE = ROOT / "illava_cli" / "assets" / "sample.jpg"
FLAT = Image.new("RGB", (90, 60), (10, 200, 30))
CLIPS = {
    "one frame": film(1, 96, 64),
    "one frame again and again": np.repeat(clip(1, 96, 64), 6, axis=0),
    "noise": storm(5, 96, 64),
    "one colour": np.full((5, 64, 96, 3), 77, np.uint8),
    "tiny": clip(3, 9, 7),
}


def answered(session, **media):
    answer = session.ask("What?", **media, logits=True)
    assert torch.isfinite(answer.logits).all()
    assert answer.usage.visual.llm_in >= 1
    return answer.usage.visual


ODD = [("llava_onevision", name) for name in ("pixels, tower", "frames, early", "clip, tower", "budget")]
ODD += [("qwen2_5_vl", "pixels, tower"), ("qwen2_5_vl", "clip, tower"), ("internvl", "still")]
ODD += [("internvl", "clip, pixels"), ("qwen3_vl", "frames, early")]


@pytest.mark.parametrize(("family", "name"), ODD)
def test_any_clip_is_answered(family, name, open_session):
    session = under(open_session(family, "preset=off"), *settings_of(name, family))
    for frames in CLIPS.values():
        answered(session, videos=[frames])


@pytest.mark.parametrize("family", [*VIDEO, "llava_next"])
def test_a_picture_of_one_colour_is_its_first_cell(family, open_session):
    session = under(open_session(family, "preset=off"), *COMMON, "pixels={tau: 0}")
    (pixels,) = [one.pixels for one in session.prepare(Request("?", [FLAT])).slots.values()]
    assert answered(session, images=[FLAT]).patches == session.family.patches_per_token * sum(pixels.entering)
    if family not in ("llava_onevision", "llava_next"):  # whose tiles have a border of another colour
        assert pixels.entering == [1] * pixels.segments
    answered(session, images=[Image.new("RGB", (3, 2), "red")])


@pytest.mark.parametrize("family", VIDEO)
def test_frames_that_show_nothing_new_are_one_frame(family, open_session):
    session = under(open_session(family, "preset=off"), *COMMON, "frames={still: 0}")
    same = np.repeat(clip(1, 96, 64), 6, axis=0)
    visual = answered(session, videos=[same])
    assert visual.frames_kept == 1
    assert answered(session, videos=[storm(6, 96, 64)]).left_out == 0


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl"])
def test_a_camera_that_stands_still_is_one_frame_behind_a_codec(family, open_session, tmp_path):
    """What H.264 makes of a photograph differs from key frame to key frame."""
    session = under(open_session(family, "preset=off"), *COMMON, "frames={still: 3}", "media.num_frames=8")
    photo = np.asarray(Image.open(SAMPLE).convert("RGB").resize((640, 480)))
    path = write_clip(tmp_path / "still.mp4", frames=32, size=(640, 480), draw=lambda *_: photo)
    assert answered(session, videos=[str(path)]).frames_kept == 1
    exact = under(session, *COMMON, "frames={still: 0}", "media.num_frames=8")
    assert answered(exact, videos=[str(path)]).frames_kept > 1
    moving = write_clip(tmp_path / "moving.mp4", frames=32, size=(640, 480))
    visual = answered(session, videos=[str(moving)])
    assert visual.frames_kept == visual.frames_in


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl"])
def test_frames_that_are_one_and_the_same_merge_into_it(family, open_session):
    session = under(open_session(family, "preset=off"), *COMMON, "frames={layers: [2], keep: 0.01}")
    same = np.repeat(clip(1, 96, 64), 6, axis=0)
    several, one = (session.ask("What?", videos=[frames], logits=True) for frames in (same, same[:2]))
    assert several.usage.visual.frames_kept == one.usage.visual.frames_kept == 1
    media = [session.prepare(Request("?", videos=[frames])) for frames in (same, same[:2])]
    pixels = [one.pixels for prepared in media for one in prepared.slots.values()]
    found = encoder.encode(session.family, pixels, [session.schedules["video"]] * 2)
    torch.testing.assert_close(found[0].embeds, found[1].embeds, **FLOAT32)
    visual = found[0].kinds == VISUAL
    assert torch.equal(found[0].place[visual], found[1].place[visual])


@pytest.mark.parametrize("budget", [1, 5])
@pytest.mark.parametrize("family", VIDEO)
def test_a_budget_below_a_token_a_frame(family, budget, open_session):
    session = under(open_session(family, "preset=off"), *COMMON, f"media.video_budget={budget}")
    if family == "llava_onevision" and budget == 1:
        with pytest.raises(UsageError, match="1 of 1 tokens are newlines, none is left: allow more"):
            session.ask("What?", videos=[film(8, 96, 64)])
        return
    visual = answered(session, videos=[film(8, 96, 64)])
    assert visual.llm_in + visual.newlines_in == budget


def test_a_method_that_finds_its_own_number_takes_no_budget(open_session):
    session = under(
        open_session("llava_onevision", "preset=off"), *COMMON, "method=prumerge", "media.video_budget=9"
    )
    with pytest.raises(UsageError, match=r"prumerge finds its own number of tokens: set input.keep"):
        session.ask("What?", videos=[film(4, 96, 64)])
    answered(session, images=[page(90, 60)])


@pytest.mark.parametrize("family", VIDEO)
def test_frames_of_changing_size_are_squashed_to_a_tile_or_refused(family, open_session):
    session = under(open_session(family, "preset=off"), *settings_of("still", family))
    frames = [Image.fromarray(x) for x in (*clip(2, 96, 64), *clip(1, 160, 40))]
    if session.family.has_tiles:
        answered(session, videos=[frames])
        return
    with pytest.raises(MediaError, match="the frames of a video differ in size: resize them"):
        session.ask("What?", videos=[frames])


@pytest.mark.parametrize("name", ["clip", "frames", "budget"])
def test_what_is_for_clips_does_nothing_to_pictures(name, open_session):
    session = open_session("qwen2_vl", "preset=off")
    images = [page(150, 120), noise(60, 60)]
    whole = session.ask("What?", images, logits=True)
    staged = under(session, *settings_of(name, "qwen2_vl")).ask("What?", images, logits=True)
    torch.testing.assert_close(staged.logits, whole.logits, **FLOAT32)
    assert staged.usage.visual == whole.usage.visual


@pytest.mark.parametrize(
    ("method", "preset"), [("evs", "off"), ("alike", "auto"), ("early-tom", "paper"), ("distinct", "turbo")]
)
def test_a_share_for_a_method_of_clips(method, preset, open_session):
    session = open_session("llava_onevision", "preset=off")
    base = Config(preset=preset).reduction_for(session.family.schedule_key)
    settings = share_settings(session.family, base, method, 0.25)
    staged = under(session, f"preset={preset}", *settings)
    video = answered(staged, videos=[storm(8, 96, 64)])
    assert video.llm_in == round(0.25 * (video.unmerged - 1))
    image = answered(staged, images=[noise(168, 168)])
    assert image.llm_in + image.newlines_in == image.unmerged


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen3_5", "gemma4"])
def test_frames_that_do_not_enter_are_as_if_they_were_not_there(family, open_session):
    """Text stands between: the clip of the others, each at the time that it shows."""
    plain = open_session(family, "preset=off")
    session = under(plain, *COMMON, "frames={layers: [-1], keep: 0.5}")
    request = Request("What happens?", videos=[storm(12, 96, 64)])
    expected = session.ask(request.prompt, videos=request.videos, logits=True)
    prepared = session.prepare(request)
    ((slot, encoded),) = prepared.slots.items()
    pixels = encoded.pixels
    each = 12 // pixels.segments
    frames = [frame for n in pixels.shown for frame in range(n * each, (n + 1) * each)]
    assert 0 < len(frames) < 12
    shorter = plain.prepare(Request("What happens?", videos=[request.videos[0][frames]]))
    own = shorter.slots[slot].pixels.timed([pixels.times[n] for n in frames])
    shorter.slots[slot] = Encoded("shorter", own)
    answer = plain.ask_batch([shorter], logits=True)[0]
    torch.testing.assert_close(answer.logits, expected.logits, **FLOAT32)
    assert answer.usage.prompt_tokens == expected.usage.prompt_tokens

    # as a later turn too
    chats = [one.chat() for one in (plain, session)]
    for chat in chats:
        chat.recall("And this?", [noise(60, 60)], answer="It is.")
    later = chats[1].ask(request.prompt, videos=request.videos, logits=True)
    turn = plain.turn(shorter, chats[0].past, earlier=chats[0]._known, logits=True)
    (answer,) = plain.passes.answer(turn)
    torch.testing.assert_close(later.logits, answer.logits, **FLOAT32)
