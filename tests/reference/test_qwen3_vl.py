"""Qwen3-VL's tower is a splice of stock layers, and its frames have their own places."""

import torch
import transformers.models.qwen3_vl.modeling_qwen3_vl as modeling_qwen3_vl
from torch import nn

from tests.reference import Counts, Schedule, qwen3_vl, reference
from tests.reference.prompts import QWEN3_PROMPTS, wide_patches
from tests.reference.splices import merge_with_tensors, recorded_maps
from tests.tolerances import EAGER


@torch.no_grad()
def test_learned_positions_are_interpolated_from_corner_to_corner(qwen3):
    visual = qwen3.model.visual
    where = [(y, x) for y in range(4) for x in range(10)]
    table = visual.pos_embed.weight.T.reshape(1, -1, 6, 6)
    grid = nn.functional.interpolate(table, size=(4, 10), mode="bilinear", align_corners=True)[0]
    places = qwen3_vl.places(visual, 4, 10, where)
    torch.testing.assert_close(places, grid.flatten(1).T, atol=1e-6, rtol=0)


@torch.no_grad()
def test_tower_merge_is_a_splice_of_stock_layers(eager_qwen3, monkeypatch):
    """Merges before, at and behind the tapped layers 1, 3 and 4: 12 -> 9 -> 6 -> 4 groups."""
    visual, schedule, medium = eager_qwen3.model.visual, {0: 0.3, 3: 0.4, 5: 0.4}, wide_patches(6, 8)
    maps = recorded_maps(monkeypatch, modeling_qwen3_vl)
    h, w = torch.arange(6).view(3, 1, 2, 1), torch.arange(8).view(1, 4, 1, 2)
    hw = torch.stack([part.expand(3, 4, 2, 2).flatten() for part in (h, w)], dim=1)
    x = visual.patch_embed(medium.pixel_values)
    x = x + qwen3_vl.places(visual, 6, 8, hw.tolist())
    rotary, places, taps = visual.rotary_pos_emb(x, hw), torch.arange(12), []
    for index, block in enumerate(visual.blocks):
        whole = torch.tensor([0, len(x)], dtype=torch.int32)
        x = x + block.attn(block.norm1(x), cu_seqlens=whole, position_embeddings=rotary)
        if index in schedule:
            attention, n = maps[-1], len(x)
            scores = ((attention.sum(0) - attention.diagonal()) / (n - 1)).view(-1, 4).mean(1)
            removed = int(len(places) * schedule[index])
            taps = [merge_with_tensors(one, scores, removed)[0] for one in taps]
            x, stay = merge_with_tensors(x.view(n // 4, 4, -1), scores, removed)
            x, places = x.flatten(0, 1), places[stay]
            rotary = tuple(part.view(n // 4, 4, -1)[stay].flatten(0, 1) for part in rotary)
        x = x + block.mlp(block.norm2(x))
        if index in (1, 3, 4):
            taps.append(visual.deepstack_merger_list[len(taps)](x))
    encoded = qwen3_vl.encode(eager_qwen3, medium, Schedule(vision=schedule))
    assert [t.place for t in encoded.tokens] == places.tolist()
    assert encoded.counts == Counts(48, 4 * 4)
    torch.testing.assert_close(torch.stack([t.embedding for t in encoded.tokens]), visual.merger(x), **EAGER)
    for number, tap in enumerate(taps):
        torch.testing.assert_close(torch.stack([t.taps[number] for t in encoded.tokens]), tap, **EAGER)


def test_text_between_frames_goes_on_after_their_grid(qwen3):
    """Frames of 2x3 groups, two words before each: every grid begins where its words end."""
    result = reference(qwen3, QWEN3_PROMPTS["video"], Schedule(vision={1: 0.5}))
    expected = [(word, word, word) for word in (0, 1)]
    for start, frame in zip((4, 9, 14), result.vision_kept, strict=True):
        expected += [(word, word, word) for word in (start - 2, start - 1)]
        expected += [(start, start + group // 3, start + group % 3) for group in frame[0][1]]
    assert result.positions == [*expected, (17, 17, 17), (18, 18, 18)]
    assert result.next_position == 19
