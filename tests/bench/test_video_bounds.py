"""What `turbo` promises of real shapes, counted: at least four times fewer operations to the first token."""

from __future__ import annotations

import pytest
import video_bounds

from illava_cli.config.settings import Config


@pytest.fixture(scope="module", params=video_bounds.SHAPES)
def family(request):
    return video_bounds.family(request.param)


@pytest.mark.parametrize("frames", [16, 32, 128])
def test_turbo_saves_three_quarters_of_the_operations(family, frames):
    assert video_bounds.bound(family, frames, Config(preset="turbo")) >= 4


@pytest.mark.parametrize("frames", [16, 128])
def test_a_clip_that_stands_still_costs_what_one_frame_costs(family, frames):
    shown = frames if family.geometry("video", (720, 1280), frames=2).segments == 2 else frames / 2
    assert video_bounds.bound(family, frames, Config(preset="turbo"), still=True) > 0.85 * shown


def test_what_merges_nothing_saves_nothing(family):
    assert video_bounds.bound(family, 32, Config(preset="off")) == pytest.approx(1)
