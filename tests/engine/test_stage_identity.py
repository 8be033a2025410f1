"""Stages before and behind the tower that leave everything in change nothing."""

import pytest
import torch

from illava_cli.reduction import METHODS
from tests.conftest import clip, picture
from tests.engine.test_identity import off
from tests.stages import VIDEO, film, noise, settings_of, storm, under
from tests.tolerances import FLOAT32

CLIPS = [name for name, method in METHODS.items() if method.clip is not None]
WHOLE = {
    "frames": ("frames={layers: [-1, 0, 3], keep: 1.0}",),
    "early-tom": ("frames={method: early-tom, layers: [2], keep: 1.0}",),
    "a budget above what there is": ("media.video_budget=100000",),
    **{name: (f"input={{method: {name}, keep: 1.0}}",) for name in CLIPS},
}
# each method once, and for each family one of a kind
ASKED = [("llava_onevision", name, layout) for name in WHOLE for layout in ("grid", "faithful")]
ASKED += [(family, name, "faithful") for family in VIDEO[1:] for name in ("frames", "distinct")]
ASKED += [(family, "a budget above what there is", "grid") for family in VIDEO[1:]]


@pytest.fixture(scope="module")
def plain(open_session):
    """A session without merging, and its answer to a picture and a clip."""
    answers = {}

    def get(family):
        if family not in answers:
            session = open_session(family, *off(family))
            answers[family] = (
                session,
                session.ask("What?", [picture(90, 60)], [clip(5, 96, 64, 1)], logits=True),
            )
        return answers[family]

    return get


@pytest.mark.parametrize(("family", "name", "layout"), ASKED)
def test_all_that_is_kept_is_unmerged(family, name, layout, plain):
    session, expected = plain(family)
    session = under(session, *off(family), *WHOLE[name], f"layout={layout}")
    answer = session.ask("What?", [picture(90, 60)], [clip(5, 96, 64, 1)], logits=True)
    torch.testing.assert_close(answer.logits, expected.logits, **FLOAT32)
    assert answer.token_ids == expected.token_ids
    assert answer.usage == expected.usage


@pytest.mark.parametrize("family", [*VIDEO, "llava_next"])
def test_noise_enters_as_it_is(family, open_session):
    media = [noise(168, 168)], [storm(5, 128, 128)] if family in VIDEO else []
    session = open_session(family, *off(family))
    expected = session.ask("What?", *media, logits=True)
    answer = under(session, *off(family), "pixels={tau: 0}", "layout=faithful").ask(
        "What?", *media, logits=True
    )
    assert answer.usage == expected.usage
    assert answer.usage.visual.left_out == 0
    torch.testing.assert_close(answer.logits, expected.logits, **FLOAT32)


@pytest.mark.parametrize("method", CLIPS)
def test_a_clip_that_stays_is_what_left_the_tower(method, open_session):
    """Where two of a frame's tokens stand in one cell of its pooled grid too."""
    settings = settings_of("pixels, tower", "llava_onevision")
    session = open_session("llava_onevision", *off("llava_onevision"))
    # a budget that nothing has to leave for: the tower's last layer ranks here as well
    whole = under(session, *settings, "media.video_budget=4000")
    kept = under(session, *settings, f"input={{method: {method}, keep: 1}}")
    expected, answer = (one.ask("?", videos=[film(7, 128, 96, 1)], logits=True) for one in (whole, kept))
    assert answer.usage == expected.usage
    torch.testing.assert_close(answer.logits, expected.logits, **FLOAT32)


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl"])
def test_a_budget_that_is_not_reached_changes_nothing_behind_a_tower_that_merges(family, open_session):
    session, settings = open_session(family, *off(family)), settings_of("pixels, tower", family)
    settings = (*settings, "pixels=null")
    plain, bounded = (under(session, *settings, *own) for own in ((), ("media.video_budget=4000",)))
    expected, answer = (one.ask("?", videos=[film(5, 96, 64, 1)], logits=True) for one in (plain, bounded))
    torch.testing.assert_close(answer.logits, expected.logits, **FLOAT32)
    assert answer.usage == expected.usage
