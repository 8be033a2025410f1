"""Grid and faithful layouts: counts, places, padding."""

import pytest
import torch
from transformers import LlavaOnevisionConfig

from tests.reference import Medium, Schedule, llava_onevision
from tests.reference.layouts import coarse, grid_layout, join_nearest, padding_cells
from tests.reference.prompts import LLAVA_PROMPTS, anyres, square, video
from tests.reference.tower import Cell


def test_join_nearest_by_hand():
    scores = {(0, 0): 0.1, (0, 2): 0.9, (1, 1): 0.3, (2, 0): 0.9, (2, 2): 0.2}
    cells = [Cell(y, x, torch.tensor([10.0**i]).double(), s) for i, ((y, x), s) in enumerate(scores.items())]
    kept = join_nearest(cells, 2)
    # (0, 0), (1, 1) and (2, 2) are as far from one as from the other: they join the first in raster order
    assert [(c.y, c.x) for c in kept] == [(0, 2), (2, 0)]
    assert [c.feature.item() for c in kept] == pytest.approx([(10 + 1 + 100 + 10000) / 4, 1000])
    assert [(c.y, c.x) for c in join_nearest(cells, 1)] == [(0, 2)]


def test_coarse_rows_by_hand():
    assert [coarse(k, 6, 3) for k in range(6)] == [0, 0, 1, 1, 2, 2]
    assert [coarse(k, 5, 3) for k in range(5)] == [0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    ("kind", "size", "side", "length", "newlines"),
    [
        ("anyres", (480, 640), 27, 2929, 40),
        ("anyres", (1200, 300), 27, 3753, 108),
        ("anyres", (300, 300), 27, 1485, 27),
        ("anyres", (1536, 1152), 27, 7332, 93),
        ("square", (480, 640), 27, 730, 1),
        ("video", None, 27, 8 * 196 + 1, 1),
        ("anyres", (480, 640), 19, 1453, 28),
        ("anyres", (1200, 300), 19, 1881, 76),
        ("anyres", (300, 300), 19, 741, 19),
        ("video", None, 19, 801, 1),
    ],
)
def test_grid_layout_counts_what_the_original_codes_do(kind, size, side, length, newlines):
    """The numbers observed in LLaVA-NeXT's code (27x27) and, merged to 19x19, in the authors'."""
    tiles = {"square": 1, "video": 8, (480, 640): 5, (1200, 300): 5, (300, 300): 2, (1536, 1152): 13}
    cell, newline = Cell(0, 0, torch.zeros(1), 0.0), torch.ones(1)
    medium = Medium(kind, torch.empty(0), size=size)
    cells = [[cell] * side**2] * tiles.get(kind, tiles.get(size))
    tokens = grid_layout(medium, cells, newline, LlavaOnevisionConfig(), llava_onevision.shrunk)
    assert (len(tokens), sum(t.kind != "image" for t in tokens)) == (length, newlines)
    assert all((t.kind == "image") == (t.embedding.item() == 0) for t in tokens)


@pytest.mark.parametrize("name", ["2x2", "wide", "square alone"])
@torch.no_grad()
def test_survivors_lie_where_their_feature_does_in_the_unmerged_medium(llava, name):
    """Merged after the last attention, every survivor but the pooled one has its unmerged feature."""
    medium = next(piece for piece in LLAVA_PROMPTS[name] if isinstance(piece, Medium))
    unmerged = llava_onevision.encode(llava, medium, Schedule())
    last = len(llava.model.vision_tower.encoder.layers) - 1
    merged = llava_onevision.encode(llava, medium, Schedule(layout="faithful", vision={last: 16}))
    assert merged.length == unmerged.length
    same = [torch.allclose(t.embedding, unmerged.tokens[t.place].embedding) for t in merged.tokens]
    places = [t.place for t in merged.tokens]
    assert places == sorted(set(places))
    assert len(same) - sum(same) <= len(medium.pixel_values)
    newlines = [(t.place, t.kind) for t in merged.tokens if t.kind != "image"]
    assert newlines == [(t.place, t.kind) for t in unmerged.tokens if t.kind != "image"]


def test_padding_cells_by_hand(llava):
    config = llava.config
    columns = {cell for cell in range(36) if cell % 6 in (0, 5)}  # 21 of 84 pixels each side: 1.5 cells
    assert padding_cells(square((84, 42)), config) == [columns]
    rows = {cell for cell in range(36) if cell // 6 in (0, 5)}
    assert padding_cells(square((50, 100)), config) == [rows]
    assert padding_cells(square((83, 84)), config) == [set()]
    assert padding_cells(video(2), config) == [set(), set()]
    # 12x12 cells, of which unpad leaves rows 3 ... 8
    top, bottom = set(range(18)), set(range(18, 36))
    medium = anyres((100, 200), 4, pinpoints=[[168, 168]])
    assert padding_cells(medium, config) == [set(), top, top, bottom, bottom]


@torch.no_grad()
def test_padding_leaves_the_tower_first(llava):
    medium = anyres((100, 200), 4, pinpoints=[[168, 168]])
    some = llava_onevision.encode(llava, medium, Schedule(layout="faithful", vision={1: 10}))
    assert [sorted(kept[1]) for kept in some.kept[1:3]] == [list(range(10, 36))] * 2
    assert sorted(some.kept[3][1]) == [*range(18), *range(28, 36)]
    assert len(some.tokens) == 26 + 6 * 12 + 6  # the padding that stayed is cropped
    most = llava_onevision.encode(llava, medium, Schedule(layout="faithful", vision={1: 10, 2: 10}))
    assert all(min(kept[2]) >= 18 and len(kept[2]) == 16 for kept in most.kept[1:3])
    assert len(most.tokens) == 16 + 4 * 16 + 6
    assert most.length == 36 + 6 * 13
    places = [t.place for t in most.tokens]
    assert places == sorted(places)


@torch.no_grad()
def test_where_only_padding_leaves_nothing_is_pooled(llava):
    """Columns 0 and 5 are padding, 12 cells: merges of 12 in all pool nothing."""
    medium, last = square((84, 42)), len(llava.model.vision_tower.encoder.layers) - 1
    image = [cell for cell in range(36) if cell % 6 not in (0, 5)]
    two = llava_onevision.encode(llava, medium, Schedule(layout="faithful", vision={1: 5, 2: 7}))
    assert two.kept[0][2] == image
    one = llava_onevision.encode(llava, medium, Schedule(layout="faithful", vision={last: 12}))
    plain = llava_onevision.encode(llava, medium, Schedule())
    assert [t.place for t in one.tokens] == [*image, 36]
    for token in one.tokens:
        torch.testing.assert_close(token.embedding, plain.tokens[token.place].embedding)


@torch.no_grad()
def test_an_interpolated_grid_keeps_its_share(llava):
    medium = anyres((200, 252), 9)  # 18x18 cells, 14 rows left; HF: 14*18 / (4*36) -> ratio 1.32 -> 10x13
    config, plain = llava.config, llava_onevision.encode(llava, medium, Schedule())
    assert [t.kind for t in plain.tokens].count("row") == 10
    assert plain.length == 36 + 10 * 14
    merged = llava_onevision.encode(llava, medium, Schedule(layout="faithful", vision={1: 11}))
    inside = 9 * 25 - sum(max(len(p) - 11, 0) for p in padding_cells(medium, config))
    kinds = [t.kind for t in merged.tokens]
    assert kinds.count("row") == 10
    assert kinds.count("image") == 25 + round(130 * inside / (14 * 18))
    assert merged.length == plain.length
    rows = [(t.place - 36) // 14 for t in merged.tokens if t.place >= 36]
    assert rows == sorted(rows)
    assert set(rows) == set(range(10))
