"""`media.min_pixels` and `media.max_pixels`: what a picture or frame costs, of models that take any size."""

from functools import partial

import numpy as np
import pytest
import torch

from illava_cli.config import MediaOptions
from illava_cli.errors import UsageError
from illava_cli.models.hf import smart_resize, video_smart_resize
from tests.builders import WRITERS
from tests.conftest import IMAGES_ONLY, clip, picture
from tests.stock import Stock
from tests.tolerances import FLOAT32

ANY_SIZE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5")
TILED = ("internvl", "llava_next", "llava_onevision")
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
    if family.startswith("qwen3"):
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


@pytest.mark.parametrize("family", ANY_SIZE)
def test_it_is_the_unmodified_model_of_a_checkpoint_with_these_limits(family, open_session, tmp_path):
    least, most, frames = 9_000, 12_000, 5
    limits = {"min_pixels": least, "max_pixels": most}
    if family.startswith("qwen3"):  # whose checkpoint says it of all frames
        limits["video_pixels"] = (frames * least, frames * most)
    dtype = "float64" if family == "qwen2_5_vl" else "float32"  # as in engine/test_identity.py
    stock = Stock(WRITERS[family](tmp_path / "bounded", **limits), dtype=getattr(torch, dtype))
    session = open_session(
        family,
        "preset=off",
        f"model.dtype={dtype}",
        "generation.max_tokens=4",
        f"media.min_pixels={least}",
        f"media.max_pixels={most}",
    )
    images, videos = [picture(200, 150, 1), picture(40, 60, 2)], [clip(frames, 120, 90)]
    answer = session.ask("What?", images, videos, logits=True)
    media = [{"type": "image"}] * 2 + [{"type": "video"}]
    text = stock.chat([{"role": "user", "content": [*media, {"type": "text", "text": "What?"}]}])
    logits, tokens = stock.answer(text, images, [list(video) for video in videos], tokens=4)
    torch.testing.assert_close(answer.logits, logits, **FLOAT32)
    assert list(answer.token_ids) == tokens[: len(answer.token_ids)]


@pytest.mark.parametrize("family", ANY_SIZE)
def test_a_region_is_seen_no_larger_than_in_the_whole(family, open_session):
    """Of the fewest pixels it has its share."""
    model = open_session(family, "preset=off").family
    small, large = picture(100, 75, 1), picture(200, 150, 1)
    enlarged = model.preprocess_image(small, options(60_000, 90_000), True).tokens
    half = model.preprocess_region(small.crop((0, 0, 50, 75)), (75, 100), options(60_000, 90_000), True)
    assert half.tokens == pytest.approx(enlarged / 2, rel=0.15)
    quarter = large.crop((0, 0, 100, 75))
    bounded = model.preprocess_region(quarter, (150, 200), options(16_000, None), True)
    usual = model.preprocess_region(quarter, (150, 200), options(None, None), True)
    assert bounded.tokens <= usual.tokens  # not enlarged to 16,000 by itself
    frame = np.asarray(small)
    whole = model.resize_frame(frame, 4, options(60_000, 90_000))
    part = model.resize_region(frame[:, :50], (75, 100), 4, options(60_000, 90_000))
    assert part.size == pytest.approx(whole.size / 2, rel=0.15)


@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize("family", WRITERS)
def test_every_family_heeds_them_or_says_what_bounds_it(family, kind, open_session):
    model = open_session(family, "preset=off").family
    bounded, usual = (
        partial(model.geometry, kind, (150, 200), 2, given)
        for given in (options(None, 5_000), options(None, None))
    )
    if family == "gemma4":  # whose checkpoint has the least that there is
        assert model.geometry(kind, (150, 200), 2, options(200_000, None)).tokens > usual().tokens
    elif family not in TILED:
        assert bounded().tokens < usual().tokens
    elif kind == "video" and family in IMAGES_ONLY:
        with pytest.raises(UsageError, match="takes images only"):
            bounded()
    else:
        with pytest.raises(UsageError, match=r"--max-pixels are for .* give --max-tiles or --num-frames"):
            bounded()


@pytest.mark.parametrize("family", TILED)
def test_tiles_have_no_such_bounds(family, open_session):
    session = open_session(family, "preset=off").updated(["max_pixels=5000"])
    with pytest.raises(UsageError, match="--max-pixels are for models that take pictures of any size"):
        session.ask("?", [picture(60, 60)])


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((9, 8), r"min_pixels \(9\) is over max_pixels \(8\)"),
        ((0, None), "min_pixels"),
        ((None, 0), "max_pixels"),
        ((10**8 + 1, None), "min_pixels"),
    ],
)
def test_bounds_that_cannot_be(bounds, message):
    with pytest.raises(ValueError, match=message):
        options(*bounds)
