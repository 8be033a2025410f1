"""The box of every cell, against what the image processors really give the tower."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from illava_cli.config import MediaOptions
from illava_cli.visualize.places import cell_boxes, in_picture, places
from tests.conftest import clip, picture
from tests.schedules import COMMON
from tests.visualize.media import bright, seen

# family, width, height, whether it is one of several images; scaled by 1 or by a whole factor
IMAGES = {
    "one tile": ("llava_onevision", 84, 84, False),
    "two tiles": ("llava_onevision", 168, 84, False),
    "tiles and padding above and below": ("llava_onevision", 168, 112, False),
    "tiles and padding at the sides": ("llava_onevision", 56, 168, False),
    "nine tiles, interpolated": ("llava_onevision", 252, 252, False),
    "shrunk by two": ("llava_onevision", 504, 448, False),
    "one of several, padded": ("llava_onevision", 84, 56, True),
    "next, padded": ("llava_next", 168, 112, False),
    "next, one of several": ("llava_next", 84, 168, True),
    "qwen, odd": ("qwen2_vl", 84, 140, False),
    "qwen2.5, odd": ("qwen2_5_vl", 140, 84, False),
    "qwen3, odd": ("qwen3_vl", 160, 96, False),
    "internvl, tiles": ("internvl", 168, 168, False),
    "internvl, wide": ("internvl", 252, 84, True),
}


def pixel_boxes(view, width, height):
    """(cells, 4) in pixels of the picture."""
    return in_picture(view, cell_boxes(view)) * [width, height, width, height]


@pytest.mark.parametrize("case", IMAGES)
def test_a_cell_gets_the_pixels_of_its_box_and_no_others(open_session, case):
    name, width, height, several = IMAGES[case]
    session = open_session(name, "preset=off")

    def prepare(image):
        return session.family.preprocess_image(image, MediaOptions(), not several)

    pixels = prepare(bright(width, height))
    dark, views = seen(session, pixels), pixels.form.views()
    outside = pixels.form.outside()
    assert len(views) == pixels.segments
    checked = 0
    for segment, view in enumerate(views):
        boxes = pixel_boxes(view, width, height)
        whole = np.abs(boxes - boxes.round()).max(1) < 1e-6
        inside = (boxes[:, :2] > -1e-6).all(1) & (
            boxes[:, :2] + boxes[:, 2:] < [width + 1e-6, height + 1e-6]
        ).all(1)
        if outside is not None:
            assert torch.equal(outside[segment] > 0, torch.from_numpy(~inside))
        for cell in np.flatnonzero(whole & inside)[::7]:
            lit = seen(session, prepare(bright(width, height, boxes[cell].round().astype(int).tolist())))
            changed = (lit - dark)[segment].abs().mean(1)
            assert changed.argmax() == cell
            family = session.family
            tile = family.tile.edge if hasattr(family, "tile") else getattr(family, "edge", None)
            shown = view.extent[2] * width, view.extent[3] * height
            if tile is None or shown == (tile, tile):  # nothing is resized: not a pixel beside it
                assert (changed > 0).sum() == 1
            checked += 1
    assert checked >= 2


@pytest.mark.parametrize("name", ["llava_onevision", "qwen2_vl", "qwen2_5_vl", "internvl"])
def test_frames(open_session, name):
    session = open_session(name, "preset=off")
    frames = np.zeros((4, 84, 84, 3), np.uint8)
    pixels = session.family.preprocess_video(list(frames))
    views = pixels.form.views()
    boxes = pixel_boxes(views[0], 84, 84).round().astype(int)
    cell = len(boxes) // 2 + 1
    left, top, width, height = boxes[cell]
    step = 4 // pixels.segments
    for segment, view in enumerate(views):
        assert view.frame == segment * step
        lit = frames.copy()
        lit[view.frame, top : top + height, left : left + width] = 255
        changed = (
            (seen(session, session.family.preprocess_video(list(lit))) - seen(session, pixels)).abs().sum(2)
        )
        assert changed.nonzero().tolist() == [[segment, cell]]


def test_a_border_narrower_than_a_patch_has_no_cells(open_session):
    """SigLIP's 384 pixels hold 27 patches of 14, and 6 pixels more that it does not see."""
    session = open_session("llava_onevision", *COMMON)
    tile = session.family.tile
    session.family.tile = replace(tile, edge=90)
    try:
        pixels = session.family.preprocess_image(bright(84, 84), MediaOptions(max_tiles=1), True)
        (view,) = pixels.form.views()
    finally:
        session.family.tile = tile
    boxes = cell_boxes(view) * 90
    assert boxes[:, :2].max() == pytest.approx(70)
    assert boxes[:, 2:].tolist() == [[pytest.approx(14)] * 2] * 36


def test_all_media_of_an_answer(open_session):
    session = open_session("llava_onevision", *COMMON)
    media = [picture(80, 40, 1), picture(30, 90, 2)], [clip(3, 60, 40)]
    answer = session.ask("What?", *media, trace=True)
    found = places(answer.trace)
    assert len(found) == answer.usage.visual.patches == 5 * 36
    assert np.bincount(found.medium).tolist() == [36, 36, 3 * 36]
    assert found.view[found.medium == 2].tolist() == [0] * 36 + [1] * 36 + [2] * 36
    assert found.padding[found.medium == 0].sum() == 12
    assert not found.padding[found.medium == 2].any()
