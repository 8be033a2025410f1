"""A cache of rows that join and leave, against lists of what each row holds."""

import random

import pytest
import torch

from illava_cli.errors import MergeError
from illava_cli.models.cache import MergeCache

LAYERS, HEADS, DIM = 3, 2, 4
CPU = torch.device("cpu")


def put(cache, rows, lengths, first=0):
    """New tokens (B, H, T, D) in every layer from `first` on, as a pass of the decoder puts them."""
    tokens = max(lengths)
    cache.place(tokens, CPU, first)
    new = torch.randn(rows, HEADS, tokens, DIM)
    for layer in range(first, LAYERS):
        cache.update(new + layer, new - layer, layer)
    cache.extend(lengths, first)
    cache.next_position = [position + n for position, n in zip(cache.next_position, lengths, strict=True)]
    return [new[row, :, :n] for row, n in enumerate(lengths)]


def held(cache, row, layer):
    return cache.keys[layer][row, :, : cache.lengths(layer)[row]]


def filled(lengths):
    cache = MergeCache(LAYERS)
    cache.begin(len(lengths))
    return cache, put(cache, len(lengths), lengths)


def test_rows_hold_what_was_put_into_them():
    """Three hundred joins, steps and leaves by chance, against a list for each row."""
    draw = random.Random(0)
    cache, rows = MergeCache(LAYERS), []
    for _ in range(300):
        what = draw.choice(("join", "step", "step", "leave"))
        if what == "join" and len(rows) < 6:
            other, new = filled([draw.randint(1, 40) for _ in range(draw.randint(1, 2))])
            cache.join(other)
            rows += new
        elif what == "step" and rows:
            rows = [
                torch.cat(both, dim=1)
                for both in zip(rows, put(cache, len(rows), [1] * len(rows)), strict=True)
            ]
        elif what == "leave" and rows:
            index = draw.randrange(len(rows))
            cache.leave(index)
            rows[index] = rows[-1]
            rows.pop()
        assert cache.rows == len(rows)
        assert cache.next_position == [row.shape[1] for row in rows]
        for index, row in enumerate(rows):
            for layer in range(LAYERS):
                assert torch.equal(held(cache, index, layer), row + layer)


def test_memory_is_taken_a_logarithmic_number_of_times():
    """A token costs a constant number of copies on average: 4,000 of them, few moves."""
    cache, _ = filled([1])
    generations = set()
    for _ in range(4000):
        put(cache, 1, [1])
        generations.add(cache.generation)
    assert len(generations) < 30
    assert cache.keys[0].shape[2] < 4001 * 1.25 + 64


def test_a_leaving_row_moves_at_most_one_other(monkeypatch):
    cache, _ = filled([5, 6, 7, 8])
    addresses = [cache.keys[0][row].data_ptr() for row in range(4)]
    before = cache.keys[0].clone()
    cache.leave(1)
    assert [cache.keys[0][row].data_ptr() for row in range(4)] == addresses
    assert torch.equal(cache.keys[0][0], before[0])
    assert torch.equal(cache.keys[0][2], before[2])
    assert torch.equal(cache.keys[0][1, :, :8], before[3, :, :8])
    assert cache.lengths() == [5, 8, 7]


def test_what_a_row_leaves_behind_is_not_seen():
    """Masked keys are multiplied by 0: what is no number would not stay away."""
    cache, _ = filled([9, 9])
    cache.keys[0][1] = torch.nan
    cache.leave(1)
    other, _ = filled([3])
    cache.join(other)
    assert cache.keys[0][1].isfinite().all()


def test_depths_of_two_schedules_join():
    one, _ = filled([6])
    one.open_depth(2)
    put(one, 1, [2], first=2)
    other, _ = filled([4])
    other.open_depth(1)
    put(other, 1, [3], first=1)
    one.join(other)
    assert [one.lengths(layer) for layer in range(3)] == [[6, 4], [6, 7], [8, 7]]


def test_a_snapshot_forgets_what_comes_after():
    cache, (row,) = filled([6])
    before = cache.snapshot()
    cache.open_depth(2)
    put(cache, 1, [5])
    cache.restore(before)
    assert (cache.lengths(0), cache.lengths(2), cache.next_position) == ([6], [6], [6])
    (more,) = put(cache, 1, [2])
    assert torch.equal(held(cache, 0, 1), torch.cat([row, more], dim=1) + 1)


def test_rows_may_come_several_times():
    cache, rows = filled([4, 6])
    cache.select([1, 1, 0])
    assert cache.lengths() == [6, 6, 4]
    for index, row in enumerate([rows[1], rows[1], rows[0]]):
        assert torch.equal(held(cache, index, 2), row + 2)


def test_a_layer_that_took_no_token_is_an_error():
    cache, _ = filled([4])
    cache.verify([4] * LAYERS)
    cache.place(1, CPU)
    cache.update(torch.zeros(1, HEADS, 1, DIM), torch.zeros(1, HEADS, 1, DIM), 0)
    with pytest.raises(MergeError, match="layer 1 took 0 new tokens, not 1"):
        cache.verify([1] * LAYERS)
