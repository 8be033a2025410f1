"""Frames that merge inside the tower, against all sets of pairs, and what the methods promise."""

from itertools import product

import pytest
import torch

from illava_cli.reduction import Merge
from illava_cli.reduction.clips import FRAME_METHODS, FrameTokens
from illava_cli.reduction.clips.frames import matching
from tests.reduction.test_clips import KINDS, draw
from tests.reference import frames as slow


def test_every_method_has_a_reference():
    assert set(slow.METHODS) == set(FRAME_METHODS)


@pytest.mark.parametrize(("seed", "count"), product(range(4), range(1, 5)))
def test_a_matching_is_the_best_of_all(seed, count):
    weights = torch.randn(2 * count + seed, generator=torch.Generator().manual_seed(seed)).double()
    taken = matching(weights, count).nonzero().flatten().tolist()
    assert taken == list(slow.matching(weights.tolist(), count))


def test_of_equal_pairs_the_earlier_merge():
    assert matching(torch.ones(6), 2).tolist() == [True, False, True, False, False, False]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", FRAME_METHODS)
def test_a_method_equals_its_loop(method, kind):
    for seed, (frames, left) in enumerate([(9, 7), (11, 5), (8, 1), (10, 9), (6, 3), (13, 9), (12, 12)]):
        features, _ = draw(seed, kind, frames, 4)
        assignment = FRAME_METHODS[method](FrameTokens(features, left))
        found = {}
        for frame, (target, weight) in enumerate(
            zip(assignment.target[0].tolist(), assignment.weight[0].tolist(), strict=True)
        ):
            found.setdefault(target, {})[frame] = weight
        expected = slow.METHODS[method](features.tolist(), left)
        assert sorted(found) == sorted(expected)
        for anchor, parts in expected.items():
            assert found[anchor] == pytest.approx(parts, abs=1e-9)


@pytest.mark.parametrize("kind", ["noise", "scenes", "still"])
@pytest.mark.parametrize("method", FRAME_METHODS)
def test_budget_and_weights(method, kind):
    """Exactly `left` remain, each with neighbours only; a slot's weights sum to 1; an anchor comes first."""
    for frames in (1, 2, 7, 18):
        features = torch.ones(frames, 3, 6) if kind == "still" else draw(0, kind, frames, 3)[0].bfloat16()
        for left in {1, frames // 3, frames // 2, frames - 1, frames} - {0}:
            assignment = FRAME_METHODS[method](FrameTokens(features, left))
            assert (assignment.target[0].diff() >= 0).all()
            assert int((assignment.target[0] == torch.arange(frames)).sum()) == left
            merge = Merge.from_assignment(assignment, left)
            sums = torch.zeros(left).scatter_add(0, merge.slot[0], merge.weight[0])
            torch.testing.assert_close(sums, torch.ones(left))
            assert (merge.weight >= 0).all()
            if method != "early-tom":
                sizes = torch.ones(1, frames)
                torch.testing.assert_close(
                    merge.weight, 1 / merge.total(sizes).gather(1, merge.slot), rtol=1e-5, atol=0
                )


@pytest.mark.parametrize("method", FRAME_METHODS)
def test_no_method_waits_for_the_device(method):
    """Tensors on `meta` have no values: whoever asks for one fails."""
    assignment = FRAME_METHODS[method](FrameTokens(torch.zeros(12, 3, 6, device="meta"), 4))
    assert assignment.target.shape == assignment.weight.shape == (1, 12)
