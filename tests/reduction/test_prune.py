"""Dropping: the least attended tokens against a loop, and at random."""

import pytest
import torch

from illava_cli.reduction import METHODS, Merge, attention_prune, random


@pytest.mark.parametrize("seed", range(10))
def test_the_least_attended_leave(seed):
    rng = torch.Generator().manual_seed(seed)
    tokens = int(torch.randint(2, 60, (1,), generator=rng))
    r = int(torch.randint(0, tokens, (1,), generator=rng))
    x = torch.randn(2, tokens, 3, generator=rng, dtype=torch.float64)
    scores = torch.rand(2, tokens, generator=rng, dtype=torch.float64).mul(20).round()  # with ties
    padding = torch.rand(2, tokens, generator=rng) < 0.3
    merge = Merge.from_assignment(attention_prune(scores, r, padding=padding), tokens - r)
    out = merge.apply(x)
    for row in range(2):
        order = sorted(range(tokens), key=lambda i: (-1.0 if padding[row, i] else float(scores[row, i]), i))
        kept = sorted(order[r:])
        assert merge.anchor[row].tolist() == kept
        assert torch.equal(out[row], x[row, kept])


@pytest.mark.parametrize("name", ["attention-prune", "random"])
def test_rows_of_different_length_and_budget(name):
    lengths, budgets = torch.tensor([9, 4, 30, 1]), torch.tensor([3, 0, 11, 0])
    valid = torch.arange(30) < lengths[:, None]
    decision = METHODS[name](torch.rand(4, 30), 11, counts=budgets, valid=valid)
    dropped = decision.target < 0
    assert torch.equal(dropped.sum(1), budgets)
    assert not (dropped & ~valid).any()
    assert torch.equal(decision.weight, torch.ones(4, 30))


def test_random_is_the_same_for_the_same_image_alone_and_in_a_batch():
    scores = torch.rand(3, 50)
    together = random(scores, 20).target
    assert torch.equal(together[1:2], random(scores[1:2], 20).target)
    assert not torch.equal(together[0], together[1])


def test_random_knows_nothing_of_attention_or_place():
    """Of 400 rows each tenth by score, and each place, loses about the share that all lose: 0.4."""
    scores = torch.rand(400, 100, generator=torch.Generator().manual_seed(0))
    dropped = random(scores, 40).target < 0
    by_score = dropped.gather(1, scores.argsort(1)).float().view(400, 10, 10).mean((0, 2))
    assert (by_score - 0.4).abs().max() < 0.04
    assert (dropped.float().mean(0) - 0.4).abs().max() < 0.12
    assert (random(torch.full((1, 100), 0.5), 40).target < 0).float().diff().abs().sum() > 20  # equal scores
