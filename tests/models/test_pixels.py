"""`media.min_pixels` and `media.max_pixels`: what a picture or frame costs, of models that take any size."""

import numpy as np
import pytest
import torch

from illava_cli.config import MediaOptions
from illava_cli.errors import UsageError
from illava_cli.models.hf import smart_resize, video_smart_resize
from tests.conftest import clip, picture
from tests.tolerances import FLOAT32

ANY_SIZE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
TILED = ("llava_next", "llava_onevision")
BOUNDS = [(None, 30_000), (40_000, None), (9_000, 12_000), (None, 500), (60_000, 60_000)]


def options(least, most) -> MediaOptions:
    return MediaOptions(min_pixels=least, max_pixels=most)


@pytest.mark.parametrize(("least", "most"), BOUNDS)
@pytest.mark.parametrize("family", ANY_SIZE)
def test_an_image_is_as_its_processor_makes_it_of_these_limits(family, least, most, open_session):
    model = open_session(family, "preset=off").family
    own, image = model.image_processor.size, picture(200, 150, 1)
    limits = {
        "shortest_edge": least or min(own["shortest_edge"], most),
        "longest_edge": most or max(own["longest_edge"], least),
    }
    batch = model.image_processor([image], size=limits, return_tensors="np")
    geometry = model.geometry("image", (150, 200), options=options(least, most))
    assert geometry.form.grid == tuple(batch["image_grid_thw"][0])
    values = model.preprocess_image(image, options(least, most), True).pixel_values(0, 1)
    np.testing.assert_array_equal(values.numpy(), batch["pixel_values"])
    plain = model.geometry("image", (150, 200))
    assert geometry.tokens != plain.tokens or (least, most) == (None, 30_000)


@pytest.mark.parametrize("family", ANY_SIZE)
def test_frames(family, open_session):
    """Of Qwen3-VL, whose own limits are for all frames of a clip, they are those of each."""
    model = open_session(family, "preset=off").family
    factor, bounds = model.patch * 2, {"min_pixels": 9_000, "max_pixels": 12_000}
    if family == "qwen3_vl":
        all_frames = {name: 7 * value for name, value in bounds.items()}
        expected = video_smart_resize(7, 150, 200, factor=factor, **all_frames)
    else:
        expected = smart_resize(150, 200, factor=factor, **bounds)
    chosen = options(9_000, 12_000)
    assert model.frame_size((150, 200), 7, chosen) == expected != model.frame_size((150, 200), 7)
    frames = [model.resize_frame(frame, 7, chosen) for frame in clip(7, 200, 150)]
    assert {frame.shape for frame in frames} == {(*expected, 3)}
    assert model.preprocess_video(frames).form == model.geometry("video", (150, 200), 7, chosen).form


@pytest.mark.parametrize("family", ANY_SIZE)
def test_a_session_pays_for_so_many(family, open_session):
    session = open_session(family, "preset=off", "generation.max_tokens=1")
    few = session.updated(["max_pixels=5000"])
    media = {"images": [picture(200, 150, 1)], "videos": [clip(3, 120, 90)]}
    whole, bounded = session.ask("?", **media, logits=True), few.ask("?", **media, logits=True)
    assert bounded.usage.visual.llm_in < whole.usage.visual.llm_in
    again = session.ask("?", **media, logits=True)  # what was encoded for the one serves not the other
    torch.testing.assert_close(again.logits, whole.logits, **FLOAT32)


@pytest.mark.parametrize("family", TILED)
def test_tiles_have_no_such_bounds(family, open_session):
    session = open_session(family, "preset=off").updated(["max_pixels=5000"])
    with pytest.raises(UsageError, match="--max-pixels are for models that take pictures of any size"):
        session.ask("?", [picture(60, 60)])


def test_the_fewest_are_not_over_the_most():
    with pytest.raises(ValueError, match=r"min_pixels \(9\) is over max_pixels \(8\)"):
        options(9, 8)
