"""A budget in whole parts, against a loop that fills one place after the other."""

import pytest
import torch

from illava_cli.reduction.clips.shares import shares
from tests.reference import clips as slow


@pytest.mark.parametrize("seed", range(40))
def test_shares_equal_the_loop_and_sum_to_the_total(seed):
    rng = torch.Generator().manual_seed(seed)
    groups = 1 + seed % 9
    room = torch.randint(0, 12, (groups,), generator=rng)
    weights = room.double() if seed % 2 else 0.01 + torch.rand(groups, generator=rng).double() ** 4
    for total in range(int(room.sum()) + 1):
        found = shares(weights, room, total)
        expected = slow.shares(dict(enumerate(weights.tolist())), dict(enumerate(room.tolist())), total)
        assert found.tolist() == list(expected.values())
        assert int(shares(weights.float(), room, total).sum()) == total


def test_large_budgets_are_exact_in_float32():
    rng = torch.Generator().manual_seed(0)
    for _ in range(200):
        room = torch.randint(0, 300, (64,), generator=rng)
        weights = room * torch.rand(64, generator=rng).clamp(min=1e-3)
        total = int(torch.randint(0, int(room.sum()) + 1, (1,), generator=rng))
        found = shares(weights, room, torch.tensor(total))
        assert int(found.sum()) == total
        assert ((found >= 0) & (found <= room)).all()
