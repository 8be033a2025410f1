"""`Merge`: applying, keeping, composing."""

import torch

from illava_cli.reduction import Assignment, Candidates, Merge, decide


def pooled(scores, r):
    """The paper's method at one budget for all rows."""
    return Merge.from_assignment(
        decide("illava", Candidates.of(scores, [(scores.shape[1], r)])), scores.shape[1] - r
    )


def test_untouched_tokens_keep_their_bits_in_bfloat16():
    x = torch.randn(1, 50, 8, dtype=torch.bfloat16)
    merge = pooled(torch.rand(1, 50), 10)
    alone = torch.bincount(merge.slot[0], minlength=40) == 1
    assert torch.equal(merge.apply(x)[0][alone], merge.keep(x)[0][alone])


def test_then_equals_one_after_the_other():
    x = torch.randn(2, 30, 4, dtype=torch.float64)
    first = pooled(torch.rand(2, 30, dtype=torch.float64), 7)
    candidates = Candidates.of(torch.rand(2, 23, dtype=torch.float64), [(23, 9)])
    second = Merge.from_assignment(decide("illava", candidates, torch.rand(2, 23) < 0.3), 14)
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


def test_selected_tokens_in_another_order_and_slots_of_none():
    merge = Merge.select(torch.tensor([[3, -1, 0]]), 4)
    assert merge.slot.tolist() == [[2, -1, -1, 0]]
    assert merge.weight.tolist() == [[1, 0, 0, 1]]
    assert merge.apply(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist() == [[4, 0, 1]]
    assert merge.anchor[0, [0, 2]].tolist() == [3, 0]


def test_plain_means():
    merge = Merge.plain(torch.tensor([[0, 1, 0, -1]]), torch.tensor([[2, 1]]))
    assert merge.weight.tolist() == [[0.5, 1, 0.5, 0]]
    assert merge.apply(torch.tensor([[1.0, 2.0, 5.0, 9.0]])).tolist() == [[3, 2]]


def test_rows_beside_one_another_are_one():
    first = Merge.plain(torch.tensor([[0, 0], [-1, 0]]), torch.tensor([[1], [1]]))
    second = Merge.identity(1, 2)
    whole = Merge.beside([first, second])
    assert whole.slot.tolist() == [[0, 0, -1, 1, 2, 3]]
    assert whole.anchor.tolist() == [[1, 3, 4, 5]]
    x = torch.arange(6.0)[None]
    parts = [first.apply(x[:, :4].view(2, 2)).flatten(), second.apply(x[:, 4:])[0]]
    assert torch.equal(whole.apply(x)[0], torch.cat(parts))


def test_rows_are_put_together_and_taken_apart():
    one, two = Merge.select(torch.tensor([[1]]), 3), Merge.select(torch.tensor([[2]]), 3)
    both = Merge.cat([one, two])
    assert both.anchor.tolist() == [[1], [2]]
    assert torch.equal(both.rows(slice(1, 2)).slot, two.slot)
