"""Qwen2-VL's tower is a splice of stock layers."""

import torch
import transformers.models.qwen2_vl.modeling_qwen2_vl as modeling_qwen2_vl

from tests.reference import Counts, Schedule, qwen2_vl
from tests.reference.prompts import patches
from tests.reference.splices import merge_with_tensors, recorded_maps
from tests.tolerances import EAGER


@torch.no_grad()
def test_qwen_tower_merge_is_a_splice_of_stock_layers(eager_qwen, monkeypatch):
    """Two frames of 4x6 patches at once, as segments: 6 -> 5 -> 3 groups each."""
    visual, schedule, medium = eager_qwen.model.visual, {2: 0.3, 4: 0.5}, patches("video", 2, 4, 6)
    maps = recorded_maps(monkeypatch, modeling_qwen2_vl)
    x, places = visual.patch_embed(medium.pixel_values), torch.arange(12)
    h, w = torch.arange(4).view(2, 1, 2, 1), torch.arange(6).view(1, 3, 1, 2)
    hw = torch.stack([part.expand(2, 3, 2, 2).flatten() for part in (h, w)], dim=1).repeat(2, 1)
    rotary = visual.rotary_pos_emb(x, hw)
    for index, block in enumerate(visual.blocks):
        segments = torch.tensor([0, len(x) // 2, len(x)], dtype=torch.int32)
        x = x + block.attn(block.norm1(x), cu_seqlens=segments, position_embeddings=rotary)
        if index in schedule:
            g, halves, stay = len(x) // 8, [], []
            for frame, attention in enumerate(maps[-2:]):
                scores = (attention.sum(0) - attention.diagonal()) / (4 * g - 1)
                half = x.view(2, g, 4, -1)[frame]
                half, left = merge_with_tensors(half, scores.view(g, 4).mean(1), int(g * schedule[index]))
                halves.append(half.flatten(0, 1))
                stay.append(left + frame * g)
            x, stay = torch.cat(halves), torch.cat(stay)
            places = places[stay]
            rotary = tuple(part.view(2 * g, 4, -1)[stay].flatten(0, 1) for part in rotary)
        x = x + block.mlp(block.norm2(x))
    encoded = qwen2_vl.encode(eager_qwen, medium, Schedule(vision=schedule))
    assert [t.place for t in encoded.tokens] == places.tolist()
    assert encoded.counts == Counts(48, 2 * 3 * 4)
    torch.testing.assert_close(torch.stack([t.embedding for t in encoded.tokens]), visual.merger(x), **EAGER)


@torch.no_grad()
def test_qwen_survivors_lie_where_their_feature_does_in_the_unmerged_medium(qwen):
    medium = patches("video", 3, 6, 8)
    unmerged = qwen2_vl.encode(qwen, medium, Schedule())
    last = len(qwen.model.visual.blocks) - 1
    merged = qwen2_vl.encode(qwen, medium, Schedule(vision={last: 0.45}))
    assert merged.counts == Counts(3 * 48, 3 * 4 * (12 - 5))
    same = [torch.allclose(t.embedding, unmerged.tokens[t.place].embedding) for t in merged.tokens]
    places = [t.place for t in merged.tokens]
    assert places == sorted(set(places))
    assert (len(same), sum(same)) == (21, 18)
