"""The values of a video's frames are those of `transformers`' video processors, to the last bit."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from illava_cli.errors import MediaError
from illava_cli.media import spool
from illava_cli.media.spool import Spool
from illava_cli.models.families.gemma4 import patch_places
from illava_cli.models.media import normalised
from tests.conftest import IMAGES_ONLY, WRITERS, clip
from tests.stock import Stock
from tests.stock.frames import rescaled_and_normalised

HALF, ONE = ([0.5] * 3, [0.5] * 3), ([0.0] * 3, [1.0] * 3)
CLIP = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]  # also Qwen2-VL's
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # InternVL's
VIDEO = [name for name in WRITERS if name not in IMAGES_ONLY]
EVERY = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, 16, 16)


@pytest.mark.parametrize("factor", [1 / 255, 0.00392156862745098, 1 / 127.5])
@pytest.mark.parametrize("steps", list(itertools.product((True, False), repeat=2)))
@pytest.mark.parametrize("means", [HALF, CLIP, IMAGENET, ONE])
def test_every_value(means, steps, factor):
    settings = dict(zip(("do_rescale", "do_normalize"), steps, strict=True))
    settings |= {"image_mean": means[0], "image_std": means[1], "rescale_factor": factor}
    expected = rescaled_and_normalised(EVERY, SimpleNamespace(**settings))
    assert expected.dtype == torch.float32
    assert torch.equal(normalised(EVERY, settings, 0), expected)
    assert torch.equal(normalised(EVERY.permute(1, 2, 0), settings, 2), expected.permute(1, 2, 0))


def test_what_settings_leave_out_is_as_in_a_processor():
    said = {"image_mean": CLIP[0], "image_std": CLIP[1]}
    whole = said | {"do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
    assert torch.equal(normalised(EVERY, said, 0), normalised(EVERY, whole, 0))


@pytest.mark.parametrize("family", VIDEO)
def test_a_clip(family, open_session, checkpoints):
    model = open_session(family, "preset=off").family
    frames = list(clip(4, 120, 90))
    pixels = model.preprocess_video([model.resize_frame(frame, 4) for frame in frames])
    ours = pixels.pixel_values(0, pixels.segments)
    stock = Stock(checkpoints(family))
    text = stock.chat([{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What?"}]}])
    inputs = stock.inputs(text, videos=[frames])
    if "video_position_ids" in inputs:  # Gemma 4 fills frames up, and knows a patch by its place
        where = inputs["video_position_ids"][0]
        rows = [int(((where == place).all(1)).nonzero()) for place in patch_places(*pixels.form.groups, 3)[0]]
        inputs["pixel_values_videos"] = inputs["pixel_values_videos"][:, rows]
    theirs = inputs["pixel_values_videos"] if "pixel_values_videos" in inputs else inputs["pixel_values"]
    np.testing.assert_array_equal(ours.flatten().numpy(), theirs.flatten().numpy())


@pytest.mark.parametrize("family", VIDEO)
def test_a_clip_that_is_not_in_memory(family, open_session, monkeypatch):
    model = open_session(family, "preset=off").family
    frames = [model.resize_frame(frame, 5) for frame in clip(5, 120, 90)]
    expected = model.preprocess_video(frames)
    expected = expected.pixel_values(0, expected.segments)
    monkeypatch.setattr(spool, "HELD_BYTES", 2 * frames[0].nbytes)
    read, inside = [], spool._Store.read
    monkeypatch.setattr(spool._Store, "read", lambda self, place: read.append(place) or inside(self, place))
    pixels = model.preprocess_video(Spool.of(frames))
    assert set(read) <= {0}
    del read[:]
    last = pixels.pixel_values(pixels.segments - 1, pixels.segments)
    assert set(read) == {4}
    parts = [pixels.pixel_values(start, start + 1) for start in range(pixels.segments - 1)]
    assert torch.equal(torch.cat([*parts, last]), expected)


@pytest.mark.parametrize("family", ["gemma4", "qwen2_vl"])
@pytest.mark.parametrize("make", [list, Spool.of])
def test_frames_of_several_sizes_are_refused(family, make, open_session):
    model = open_session(family, "preset=off").family
    frames = [model.resize_frame(frame, 2) for frame in (*clip(1, 120, 90), *clip(1, 60, 90))]
    with pytest.raises(MediaError, match="the frames of a video differ in size: resize them to one size"):
        model.preprocess_video(make(frames))
