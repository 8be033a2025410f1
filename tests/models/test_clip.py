"""The places of a clip's tokens on the grid over which its methods look."""

import pytest
import torch

from illava_cli.models.clip import cells_apart


def slow(cells_of_frames, cells):
    """The next free cell for each, and from the end those that would lie behind it."""
    found = []
    for number, own in enumerate(cells_of_frames):
        taken = []
        for cell in own:
            taken.append(max([cell, *(t + 1 for t in taken[-1:])]))
        most = cells
        for i in range(len(taken) - 1, -1, -1):
            taken[i] = most = min(taken[i], most - 1)
        found.append((number, taken))
    return found


@pytest.mark.parametrize("cells", [1, 4, 9, 14])
def test_each_token_has_a_cell_of_its_own(cells):
    generator = torch.Generator().manual_seed(cells)
    for _ in range(50):
        frames = []
        for _ in range(5):
            count = int(torch.randint(0, cells + 1, (), generator=generator))
            frames.append(torch.randint(0, cells, (count,), generator=generator).sort().values.tolist())
        frame = torch.tensor([n for n, own in enumerate(frames) for _ in own], dtype=torch.long)
        cell = torch.tensor([c for own in frames for c in own], dtype=torch.long)
        expected = [c for _, own in slow(frames, cells) for c in own]
        assert cells_apart(frame, cell, cells).tolist() == expected
        for _, own in slow(frames, cells):
            assert sorted(set(own)) == own
            assert all(0 <= c < cells for c in own)


def test_who_is_alone_stays():
    frame, cell = torch.tensor([0, 0, 0, 2, 2]), torch.tensor([0, 3, 8, 1, 2])
    assert torch.equal(cells_apart(frame, cell, 9), cell)
