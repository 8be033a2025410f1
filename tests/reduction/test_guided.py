"""Choosing by relevance, against loops over cells and windows in float64."""

import math

import pytest
import torch

from illava_cli.reduction import METHODS, most_similar_frames, region
from illava_cli.reduction.guided import densest, middle_of_top
from tests.reduction.slow import densest_window, middle_of_cells

SLOW = {"clip-crop": densest_window, "clipseg-crop": densest_window, "free-video-llm": middle_of_cells}
GUIDED = {name: method.guided for name, method in METHODS.items() if method.guided}


@pytest.mark.parametrize("keep", [1 / 64, 0.2, 1 / 3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("name", GUIDED)
def test_a_centre_equals_its_loop(name, keep):
    rng = torch.Generator().manual_seed(0)
    for shape in ((8, 8), (5, 9), (1, 7)):
        relevance = torch.randn(4, *shape, generator=rng, dtype=torch.float64)
        relevance[3] = relevance[3].round()  # ties
        found = GUIDED[name].centre(relevance, keep)
        expected = torch.tensor([SLOW[name](frame, keep) for frame in relevance], dtype=torch.float64)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_what_stands_out_is_inside():
    """Two blobs: the densest window holds the larger one, the middle of the top cells lies between them."""
    relevance = torch.zeros(1, 10, 10, dtype=torch.float64)
    relevance[0, :3, :3], relevance[0, 8:, 8:] = 1, 1
    assert densest(relevance, 0.09).tolist() == [[0.15, 0.15]]
    row, column = middle_of_top(relevance, 0.13)[0].tolist()
    assert row == column == pytest.approx((9 * 0.15 + 4 * 0.9) / 13)


def test_frames_in_their_order_and_earlier_ones_on_ties():
    similarity = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.7])
    assert most_similar_frames(similarity, 0.6) == [1, 2, 4]
    assert most_similar_frames(similarity, 1.0) == [0, 1, 2, 3, 4]
    assert most_similar_frames(similarity, 0.01) == [1]


@pytest.mark.parametrize("keep", [0.01, 0.25, 1 / 3, 0.8, 1.0])
@pytest.mark.parametrize("size", [(480, 640), (7, 300), (1, 1)])
def test_a_region_has_its_share_and_lies_inside(size, keep):
    height, width = size
    for centre in ((0.5, 0.5), (0.0, 1.0), (0.93, 0.04)):
        left, top, right, bottom = region(centre, size, keep)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert bottom - top == max(1, round(height * math.sqrt(keep)))
        assert right - left == max(1, round(width * math.sqrt(keep)))
    assert region((0.2, 0.9), size, 1.0) == (0, 0, width, height)


def test_a_region_lies_around_its_centre():
    assert region((0.5, 0.25), (100, 200), 0.25) == (0, 25, 100, 75)
    assert region((0.5, 0.5), (100, 200), 0.25) == (50, 25, 150, 75)
