"""Fewer survivors on a pooled grid, against a loop."""

import torch

from illava_cli.reduction import Merge
from illava_cli.reduction import nearest as nearest_module
from illava_cli.reduction.nearest import nearest


def naive(x, scores, rows, columns, m):
    n = len(scores)
    kept = sorted(sorted(range(n), key=lambda i: (-scores[i], i))[:m])
    joined = {k: [] for k in kept}
    for i in range(n):
        closest = min(kept, key=lambda k: ((rows[i] - rows[k]) ** 2 + (columns[i] - columns[k]) ** 2, k))
        joined[closest].append(x[i])
    return [sum(joined[k]) / len(joined[k]) for k in kept], kept


def test_nearest_equals_the_loop(monkeypatch):
    torch.manual_seed(0)
    for chunk in (nearest_module.CHUNK_CELLS, 64):
        monkeypatch.setattr(nearest_module, "CHUNK_CELLS", chunk)
        place = torch.stack([torch.randperm(144)[:50].sort().values for _ in range(3)])
        rows, columns = place // 12, place % 12
        scores = torch.rand(3, 50, dtype=torch.float64).mul(9).round()  # ties
        x = torch.randn(3, 50, 4, dtype=torch.float64)
        merge = Merge.from_assignment(nearest(scores, rows, columns, 17), 17)
        out = merge.apply(x)
        for b in range(3):
            expected, kept = naive(x[b], *(t[b].tolist() for t in (scores, rows, columns)), 17)
            torch.testing.assert_close(out[b], torch.stack(expected), atol=1e-12, rtol=0)
            assert merge.anchor[b].tolist() == kept
