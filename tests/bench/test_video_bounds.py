"""What `turbo` promises of real shapes, counted: at least four times fewer operations to the first token."""

from __future__ import annotations

import pytest
import video_bounds

from illava_cli.config.settings import Config


@pytest.fixture(scope="module", params=video_bounds.SHAPES)
def family(request):
    return video_bounds.family(request.param)


@pytest.mark.parametrize("frames", [32, 128])
def test_turbo_saves_three_quarters_of_the_operations(family, frames):
    assert video_bounds.bound(family, frames, Config(preset="turbo")) >= 4


def test_what_merges_nothing_saves_nothing(family):
    assert video_bounds.bound(family, 32, Config(preset="off")) == pytest.approx(1)
