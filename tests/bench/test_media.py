"""Synthetic media: the right number of tiles and frames, and never the same pixels twice."""

import os
from functools import partial

import numpy as np
import pytest

from illava_cli.bench.media import real, synthetic_image, synthetic_video
from illava_cli.config import MediaOptions
from illava_cli.errors import Timeout, UsageError


@pytest.mark.parametrize("tiles", [1, 2, 3, 5, 7, 10])
def test_an_image_makes_as_many_tiles(tiles, lab):
    family = lab("llava_onevision").family
    medium = synthetic_image(tiles, family)
    pixels = medium.read(family, *medium.fresh(0))
    assert [p.segments for p in pixels] == [tiles]


def test_a_number_without_a_grid_is_refused(lab):
    with pytest.raises(UsageError, match="--tiles 1000: this model makes 1, 2, 3, 4, 5, 7, 10"):
        synthetic_image(1000, lab("llava_onevision").family)


def test_a_model_without_tiles_gets_as_large_an_image(lab):
    family = lab("qwen2_vl").family
    assert synthetic_image(1, family).images[0].shape == (384, 384, 3)
    assert synthetic_image(7, family).images[0].shape == (768, 1152, 3)


def test_bounds_on_pixels_hold_for_synthetic_media_too(lab):
    family, bounds = lab("qwen2_vl").family, MediaOptions(max_pixels=5000, fps=2)
    for make, count in ((partial(synthetic_image, 1, family), 1), (partial(synthetic_video, 4), 2)):
        (usual,), (bounded,) = (m.read(family, *m.fresh(0)) for m in (make(), make(options=bounds)))
        assert bounded.segments == usual.segments == count
        assert bounded.tokens == 4 < usual.tokens  # 56 x 56 pixels


@pytest.mark.parametrize("frames", [1, 4, 33])
def test_every_frame_is_used(frames, lab):
    family = lab("llava_onevision").family
    medium = synthetic_video(frames)
    assert [p.segments for p in medium.read(family, *medium.fresh(0))] == [frames]


def test_no_two_requests_are_alike(lab):
    medium = synthetic_image(1, lab("llava_onevision").family)
    pictures = [medium.fresh(number)[0][0] for number in range(4)]
    assert all(x.dtype == np.uint8 for x in pictures)
    assert len({x.tobytes() for x in pictures}) == 4


def test_a_file_is_read_for_the_unmodified_model_in_its_time(lab, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    medium = real([str(tmp_path / "pipe.png")], [], MediaOptions(media_timeout=0.05))
    with pytest.raises(Timeout, match="not read within"):
        medium.read(lab("llava_onevision").family, *medium.fresh(0))
