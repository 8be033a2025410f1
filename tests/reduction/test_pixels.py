"""Which cells neighbours predict, beside loops over cells in floats."""

from itertools import chain

import numpy as np
import pytest

from illava_cli.reduction import pixels
from illava_cli.reduction.pixels import Cells, entering, moved, surprise, thumbnails


def cells_of(picture, rows, columns):
    """[row][column] -> (T, h, w, 3) floats."""
    height, width = picture.shape[1] // rows, picture.shape[2] // columns
    return [
        [
            picture[:, r * height : (r + 1) * height, c * width : (c + 1) * width].astype(float)
            for c in range(columns)
        ]
        for r in range(rows)
    ]


def slow_entering(picture, rows, columns, tau, before):
    cells = cells_of(picture, rows, columns)
    earlier = None if before is None else cells_of(before, rows, columns)

    def error(a, b):
        return np.abs(a - b).max()

    enters = np.zeros((rows, columns), dtype=bool)
    for r in range(rows):
        for c in range(columns):
            here, errors = cells[r][c], []
            if r and c:
                left, up, corner = cells[r][c - 1], cells[r - 1][c], cells[r - 1][c - 1]
                down = error(left, corner) <= tau and error(left, up) > tau
                errors.append(error(here, up if down else left))
            elif r or c:
                errors.append(error(here, cells[r - 1][c] if r else cells[r][c - 1]))
            if earlier is not None:
                errors.append(error(here, earlier[r][c]))
            enters[r, c] = not errors or min(errors) > tau
    return enters


def drawn(rng, frames, levels):
    """27 x 26 pixels: blocks of few colours, so that neighbours are often alike, with some dirt of 1."""
    coarse = rng.integers(0, levels, (frames, 6, 6, 3)) * 60
    made = coarse.repeat(4, 1).repeat(4, 2)
    made = np.pad(made, [(0, 0), (0, 3), (0, 2), (0, 0)], mode="edge")
    return (made + (rng.random(made.shape) < 0.002)).astype(np.uint8)


GRIDS = [(1, 4, 6), (2, 3, 4), (1, 1, 6), (1, 6, 1), (1, 1, 1)]


@pytest.mark.parametrize("tau", [0, 1, 59, 60.5, 255])
@pytest.mark.parametrize(("frames", "rows", "columns"), GRIDS)
@pytest.mark.parametrize("block", [1, pixels.BLOCK_BYTES])
def test_as_a_loop_says(block, frames, rows, columns, tau, monkeypatch):
    monkeypatch.setattr(pixels, "BLOCK_BYTES", block)
    rng = np.random.default_rng(frames * 100 + rows * 10 + columns)
    for levels in (1, 2, 3):
        picture, before = (drawn(rng, frames, levels) for _ in range(2))
        keep = rng.random(picture.shape[1:3]) < 0.5
        before[:, keep] = picture[:, keep]
        for earlier in (None, before, picture):
            expected = slow_entering(picture, rows, columns, tau, earlier)
            shown = [None if one is None else Cells.of(one, rows, columns) for one in (picture, earlier)]
            assert (entering(shown[0], tau, shown[1]) == expected).all()


def test_by_hand():
    def cells(picture):
        return Cells.of(picture, 4, 4)

    flat = np.full((1, 8, 8, 3), 7, np.uint8)
    assert entering(cells(flat)).sum() == 1  # the first, which nothing predicts
    assert not entering(cells(flat), before=cells(flat)).any()
    halves = flat.copy()
    halves[:, :, 4:] = 90
    assert np.argwhere(entering(cells(halves))).tolist() == [[0, 0], [0, 2]]  # an edge goes on below
    rows = flat.copy()
    rows[:, 4:] = 90
    assert np.argwhere(entering(cells(rows))).tolist() == [[0, 0], [2, 0]]
    last = flat.copy()
    last[:, -1, -1, 0] = 255  # bytes do not run over
    assert np.argwhere(entering(cells(last))).tolist() == [[0, 0], [3, 3]]
    assert np.argwhere(entering(cells(last), tau=247)).tolist() == [[0, 0], [3, 3]]
    assert np.argwhere(entering(cells(last), tau=248)).tolist() == [[0, 0]]


def fourth_lines(cells):
    """Of each cell every fourth line of each frame."""
    return [[cell[:, ::4] for cell in row] for row in cells]


@pytest.mark.parametrize(("frames", "rows", "columns"), GRIDS)
def test_how_little_neighbours_tell(frames, rows, columns):
    rng = np.random.default_rng(frames)
    picture, before = (drawn(rng, frames, 3) for _ in range(2))
    for earlier in (None, before, picture):
        cells = fourth_lines(cells_of(picture, rows, columns))
        shown = [None if one is None else Cells.of(one, rows, columns) for one in (picture, earlier)]
        found = surprise(*shown)
        for r in range(rows):
            for c in range(columns):
                others = [cells[r][c - 1]] * (c > 0) + [cells[r - 1][c]] * (r > 0)
                if earlier is not None:
                    others.append(fourth_lines(cells_of(earlier, rows, columns))[r][c])
                least = min((np.abs(cells[r][c] - other).mean() for other in others), default=255)
                assert found[r, c] == pytest.approx(least, abs=1e-4)


@pytest.mark.parametrize(("frames", "size", "rows", "columns"), [(1, (20, 30), 4, 5), (2, (29, 33), 3, 4)])
def test_how_much_moved_and_how_it_looks(frames, size, rows, columns):
    rng = np.random.default_rng(1)
    picture, before = (rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8) for _ in range(2))
    cells, earlier = (cells_of(x, rows, columns) for x in (picture, before))
    pairs = zip(chain(*cells), chain(*earlier), strict=True)
    differences = [np.abs(one - other).mean() for one, other in pairs]
    shown, last = (Cells.of(one, rows, columns) for one in (picture, before))
    most = moved(shown, last)
    assert most == pytest.approx(max(differences))
    assert moved(shown, shown) == 0
    assert moved(shown, last, most) == most
    quiet = [one.copy() for one in before]
    for one, other in zip(quiet, picture, strict=True):  # of what moves the first row moves least
        one[: size[0] // rows] = other[: size[0] // rows] ^ 1
    quiet = Cells.of(quiet, rows, columns)
    assert moved(shown, quiet, 0.5) == 1
    assert moved(shown, quiet, 1) > 10
    looks = thumbnails(shown)
    assert looks.shape == (rows * columns, 6)
    lines = [cell.reshape(-1, *cell.shape[2:]) for row in cells for cell in row]  # of all frames
    for look, cell in zip(looks, lines, strict=True):
        half = len(cell) // 2
        means = [cell[:half].mean((0, 1)), cell[half : 2 * half].mean((0, 1))]
        assert look == pytest.approx(np.concatenate(means) - 127.5, abs=1e-3)


def test_large_cells_do_not_run_over():
    black, white = (Cells.of(np.full((1, 258, 4, 3), level, np.uint8), 1, 1) for level in (0, 255))
    assert moved(black, white) == 255


def test_nothing_is_copied():
    frame = np.zeros((29, 33, 3), np.uint8)
    tile = np.zeros((3, 20, 30, 1), np.uint8)
    for picture in ([frame, frame], tile):
        cells = Cells.of(picture, 4, 5)
        assert all(np.shares_memory(one, own) for one, own in zip(cells.frames, picture, strict=True))
        assert all(
            np.shares_memory(one, own) for one, own in zip(cells[1:, ::2].frames, picture, strict=True)
        )
