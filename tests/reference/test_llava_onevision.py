"""LLaVA-OneVision's tower and layouts are splices of stock layers."""

import pytest
import torch

from tests.reference import Counts, Schedule, llava_onevision, reference
from tests.reference.prompts import LLAVA_PROMPTS, anyres, video
from tests.reference.splices import pool_with_tensors, stock_tile
from tests.tolerances import EAGER


@torch.no_grad()
def test_tower_merge_is_a_splice_of_stock_layers(eager_llava, monkeypatch):
    """6x6 -> 32 -> 5x5 a tile, then HF's own packing for a tile side of 5."""
    model, config, schedule = eager_llava, eager_llava.config, {2: 4, 4: 7}
    medium = anyres((100, 168), 4, pinpoints=[[168, 168]])
    features = torch.stack([stock_tile(model, tile, schedule)[0] for tile in medium.pixel_values])
    with monkeypatch.context() as patch:
        patch.setattr(config.vision_config, "image_size", 5 * 14)
        patch.setattr(config, "image_grid_pinpoints", [[2 * 70, 2 * 70]])
        [expected], _ = model.model.pack_image_features(
            [features], [medium.size], model.model.image_newline, "anyres_max_4"
        )
    encoded = llava_onevision.encode(model, medium, Schedule(vision=schedule))
    assert encoded.counts == Counts(5 * 36, 5 * 25)
    torch.testing.assert_close(torch.stack([t.embedding for t in encoded.tokens]), expected, **EAGER)


@torch.no_grad()
def test_faithful_video_is_a_pooled_splice_of_stock_layers(eager_llava):
    schedule, medium = {2: 4, 4: 7}, video(3)
    features, places = [], []
    for frame, tile in enumerate(medium.pixel_values):
        x, cells, scores = stock_tile(eager_llava, tile, schedule)
        yx = torch.stack([cells // 6, cells % 6], dim=1)
        x, at = pool_with_tensors(x, yx, scores, round(9 * 25 / 36), (6, 6), (3, 3))
        features.append(x)
        places += (frame * 9 + at[:, 0] * 3 + at[:, 1]).tolist()
    encoded = llava_onevision.encode(eager_llava, medium, Schedule(layout="faithful", vision=schedule))
    *tokens, last = encoded.tokens
    assert [t.place for t in tokens] == places
    assert (last.place, encoded.length) == (27, 28)
    torch.testing.assert_close(torch.stack([t.embedding for t in tokens]), torch.cat(features), **EAGER)


@torch.no_grad()
def test_faithful_shrunk_image_is_a_pooled_splice_of_stock_layers(eager_llava):
    schedule, medium = {2: 4, 4: 7}, anyres((252, 252), 9)  # 18x18 cells, 12x12 for the LLM
    (base, base_cells, _), *tiles = (stock_tile(eager_llava, tile, schedule) for tile in medium.pixel_values)
    yx = [torch.stack([i // 3 * 6 + c // 6, i % 3 * 6 + c % 6], dim=1) for i, (_, c, _) in enumerate(tiles)]
    x, scores = torch.cat([x for x, _, _ in tiles]), torch.cat([s for _, _, s in tiles])
    x, at = pool_with_tensors(x, torch.cat(yx), scores, round(144 * 225 / 324), (18, 18), (12, 12))
    encoded = llava_onevision.encode(eager_llava, medium, Schedule(layout="faithful", vision=schedule))
    tokens = [t for t in encoded.tokens if t.kind == "image"]
    places = [36 + row * 13 + column for row, column in at.tolist()]
    assert [t.place for t in tokens] == base_cells.tolist() + places
    torch.testing.assert_close(torch.stack([t.embedding for t in tokens]), torch.cat([base, x]), **EAGER)


@pytest.mark.parametrize(("layout", "in_llm", "kept"), [("grid", 3 * 9, 13), ("faithful", 3 * 6, 9)])
def test_video_counts(llava, layout, in_llm, kept):
    """36 -> 25 a frame; pooled to 3x3 of 5x5 (grid), to round(9 * 25 / 36) (faithful); the newline stays."""
    result = reference(llava, LLAVA_PROMPTS["video"], Schedule(layout=layout, vision={1: 11}, llm={2: 0.5}))
    assert result.counts == [Counts(3 * 36, 3 * 25, in_llm, kept, 1, 1)]
