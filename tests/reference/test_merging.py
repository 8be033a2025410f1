"""The merge and the scores, by hand."""

import math

import pytest
import torch

from tests.reference.decoder import llm_scores
from tests.reference.merging import merge, merge_plan, received


def test_merge_by_hand():
    x = torch.tensor([[1.0], [10.0], [100.0], [1000.0], [10000.0]], dtype=torch.float64)
    # ascending: 3 (0.1), 1 (0.2), 4 (0.2, later), 0, 2; two leave: weights 3, 2, 1 on 3, 1, 4
    merged, kept, sizes = merge(x, x, [0.3, 0.2, 0.4, 0.1, 0.2], [1, 2, 1, 3, 1], 2, "illava")
    assert (kept, sizes) == ([0, 2, 4], [1, 1, 6])
    expected = torch.tensor([1.0, 100.0, (3 * 1000 + 2 * 10 + 1 * 10000) / 6], dtype=torch.float64)
    torch.testing.assert_close(merged[:, 0], expected)


def test_padding_leaves_first_and_is_dropped():
    scores = [0.5, 0.1, 0.9, 0.2, 0.3, 0.4]
    # order: padding 2, 5, then 1, 3, 4, 0; three leave (2, 5, 1), the pooled are 1 and 3 with weights 2, 1
    kept, anchor, parts = merge_plan(scores, 3, {2, 5})
    assert (kept, anchor) == ([0, 3, 4], 3)
    assert parts == [(1, 2 / 3), (3, 1 / 3)]
    # only padding leaves: nothing is pooled, whether the next is padding or not
    assert merge_plan(scores, 2, {2, 5}) == ([0, 1, 3, 4], 1, [(1, 1.0)])
    assert merge_plan(scores, 1, {2, 5}) == ([0, 1, 3, 4, 5], 5, [(5, 1.0)])


def test_at_least_one_token_stays():
    with pytest.raises(ValueError, match="at least one"):
        merge_plan([0.1, 0.2], 2)


def test_scores_by_hand():
    attention = torch.tensor([[[0.6, 0.4, 0.0], [0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]])
    assert received(attention, "paper") == pytest.approx([0.6 / 2, 0.7 / 2, 0.7 / 2])
    assert received(attention, "authors") == pytest.approx([1.2 / 3, 0.9 / 3, 0.9 / 3])
    causal = torch.tensor([[[1.0, 0, 0, 0], [0.3, 0.7, 0, 0], [0.2, 0.5, 0.3, 0], [0.1, 0.2, 0.3, 0.4]]])
    assert llm_scores(causal, [0, 1, 2], 3, "last") == pytest.approx([0.1, 0.2, 0.3])
    assert llm_scores(causal, [0, 1, 2], 3, "visual-literal") == pytest.approx([0.5 / 2, 0.5 / 2, 0])
    assert llm_scores(causal, [0, 1, 2], 3, "visual") == pytest.approx([0.5 / 2, 0.5, math.inf])
