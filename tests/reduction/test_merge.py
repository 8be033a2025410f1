"""`Merge` and the paper's method against loops over tokens, in float64."""

import pytest
import torch

from illava_cli.reduction import Assignment, Merge, illava


def naive(x, scores, r, padding=None):
    """DESIGN section 3, token by token: a row's tokens (N, C) -> (N - r, C), and the kept places."""
    rank = {i: (0, 0, i) if padding and padding[i] else (1, scores[i], i) for i in range(len(scores))}
    order = sorted(rank, key=rank.get)
    lowest = order[: r + 1]
    if r == 0:
        return [x[i] for i in range(len(x))], list(range(len(x)))
    leaving, pooled = [], []
    for rank, token in enumerate(lowest):
        if padding and padding[token] and rank < r:
            leaving.append(token)
        else:
            pooled.append((r + 1 - rank, token))
    total = sum(weight for weight, _ in pooled)
    merged = sum(weight / total * x[token] for weight, token in pooled)
    anchor = lowest[r]
    gone = {*leaving, *(token for _, token in pooled)} - {anchor}
    kept = [i for i in range(len(x)) if i not in gone]
    return [merged if i == anchor else x[i] for i in kept], kept


@pytest.mark.parametrize("seed", range(20))
def test_illava_equals_the_loop(seed):
    rng = torch.Generator().manual_seed(seed)
    tokens = int(torch.randint(2, 60, (1,), generator=rng))
    r = int(torch.randint(0, tokens, (1,), generator=rng))
    x = torch.randn(3, tokens, 5, generator=rng, dtype=torch.float64)
    scores = torch.rand(3, tokens, generator=rng, dtype=torch.float64)
    scores[1] = scores[1].mul(4).round()  # many ties
    padding = torch.rand(3, tokens, generator=rng) < 0.3
    for mask in (None, padding):
        merge = Merge.from_assignment(illava(scores, r, padding=mask), tokens - r)
        out = merge.apply(x)
        for row in range(3):
            marks = None if mask is None else mask[row].tolist()
            expected, kept = naive(x[row], scores[row].tolist(), r, marks)
            torch.testing.assert_close(out[row], torch.stack(expected), atol=1e-12, rtol=0)
            assert merge.anchor[row].tolist() == kept


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_different_length_and_budget(seed):
    rng = torch.Generator().manual_seed(seed)
    lengths, budgets = [9, 4, 30, 1], [3, 0, 11, 0]
    scores = torch.rand(4, 30, generator=rng, dtype=torch.float64)
    valid = torch.arange(30) < torch.tensor(lengths)[:, None]
    decision = illava(scores, max(budgets), counts=torch.tensor(budgets), valid=valid)
    x = torch.randn(4, 30, 2, generator=rng, dtype=torch.float64)
    kept = [n - r for n, r in zip(lengths, budgets, strict=True)]
    offset = torch.tensor([max(kept) - k for k in kept])
    merge = Merge.from_assignment(decision, max(kept), valid=valid, offset=offset)
    out = merge.apply(x)
    for row, (n, r) in enumerate(zip(lengths, budgets, strict=True)):
        expected, _ = naive(x[row, :n], scores[row, :n].tolist(), r)
        torch.testing.assert_close(out[row, offset[row] :], torch.stack(expected), atol=1e-12, rtol=0)
        assert out[row, : offset[row]].abs().sum() == 0


def test_nothing_removed_is_the_identity():
    x = torch.randn(2, 7, 3)
    merge = Merge.from_assignment(illava(torch.rand(2, 7), 0), 7)
    assert torch.equal(merge.apply(x), x)
    assert torch.equal(merge.keep(x), x)


def test_weights_of_a_slot_sum_to_one():
    scores = torch.rand(4, 40)
    merge = Merge.from_assignment(illava(scores, 13, padding=torch.rand(4, 40) < 0.2), 27)
    sums = torch.zeros(4, 27).scatter_add(1, merge.slot.clamp(min=0), merge.weight)
    torch.testing.assert_close(sums, torch.ones(4, 27))
    assert (merge.weight[merge.slot < 0] == 0).all()


def test_untouched_tokens_keep_their_bits_in_bfloat16():
    x = torch.randn(1, 50, 8, dtype=torch.bfloat16)
    merge = Merge.from_assignment(illava(torch.rand(1, 50), 10), 40)
    alone = torch.bincount(merge.slot[0], minlength=40) == 1
    assert torch.equal(merge.apply(x)[0][alone], merge.keep(x)[0][alone])


def test_then_equals_one_after_the_other():
    x = torch.randn(2, 30, 4, dtype=torch.float64)
    first = Merge.from_assignment(illava(torch.rand(2, 30, dtype=torch.float64), 7), 23)
    padding = torch.rand(2, 23) < 0.3
    second = Merge.from_assignment(illava(torch.rand(2, 23, dtype=torch.float64), 9, padding=padding), 14)
    both = first.then(second)
    torch.testing.assert_close(both.apply(x), second.apply(first.apply(x)), atol=1e-12, rtol=0)
    assert torch.equal(both.keep(x), second.keep(first.keep(x)))
    identity = Merge.identity(2, 30)
    assert torch.equal(identity.then(first).slot, first.slot)


def test_dropping_leaves_no_trace():
    target = torch.tensor([[0, -1, 2, 2]])
    weight = torch.tensor([[1.0, 1.0, 0.5, 0.5]])
    merge = Merge.from_assignment(Assignment(target, weight), 2)
    assert merge.apply(torch.tensor([[[1.0], [100.0], [2.0], [4.0]]])).flatten().tolist() == [1.0, 3.0]
