"""Qwen2.5-VL's tower is a splice of stock layers, and time decides its positions."""

import inspect

import torch
import transformers.models.qwen2_5_vl.modeling_qwen2_5_vl as modeling_qwen2_5_vl
from torch import nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
from transformers.vision_utils import get_vision_window_index

from tests.reference import Counts, Schedule, qwen2_5_vl, reference
from tests.reference.prompts import QWEN25_PROMPTS, patches
from tests.reference.splices import merge_with_tensors, recorded_maps
from tests.tolerances import EAGER


@torch.no_grad()
def test_windowed_tower_merge_is_a_splice_of_stock_layers(eager_qwen25, monkeypatch):
    """Two frames of 3x5 groups in HF's order, sorted by window, and back after the last block."""
    visual, schedule, medium = (
        eager_qwen25.model.visual,
        {1: 0.3, 2: 0.2, 3: 0.2, 4: 0.3},
        patches("video", 2, 6, 10),
    )
    assert set(visual.fullatt_block_indexes) == {1, 4}
    maps = recorded_maps(monkeypatch, modeling_qwen2_5_vl)
    places, borders = get_vision_window_index(torch.tensor([[2, 6, 10]]), 2, visual.window_size, 14)
    window = torch.arange(12).repeat_interleave(borders.diff() // 4)  # 2x3 a frame
    x = visual.patch_embed(medium.pixel_values)
    h, w = torch.arange(6).view(3, 1, 2, 1), torch.arange(10).view(1, 5, 1, 2)
    hw = torch.stack([part.expand(3, 5, 2, 2).flatten() for part in (h, w)], dim=1).repeat(2, 1)
    x, *rotary = (part.view(30, 4, -1)[places].flatten(0, 1) for part in (x, *visual.rotary_pos_emb(x, hw)))
    for index, block in enumerate(visual.blocks):
        together = window // 6 if index in visual.fullatt_block_indexes else window
        lengths = together.unique_consecutive(return_counts=True)[1] * 4
        segments = nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
        maps.clear()
        x = x + block.attn(block.norm1(x), cu_seqlens=segments, position_embeddings=rotary)
        if index in schedule:
            shares = [len(m) if together is window else 1 for m in maps]
            scores = torch.cat(
                [
                    (m.sum(0) - m.diagonal()) / (len(m) - 1) * share
                    for m, share in zip(maps, shares, strict=True)
                ]
            )
            scores, parts, stay = scores.view(-1, 4).mean(1), [], []
            for frame in range(2):
                mine = (window // 6 == frame).nonzero().squeeze(1)
                removed = int(len(mine) * schedule[index])
                part, left = merge_with_tensors(x.view(len(window), 4, -1)[mine], scores[mine], removed)
                parts.append(part.flatten(0, 1))
                stay.append(mine[left])
            x, stay = torch.cat(parts), torch.cat(stay)
            rotary = tuple(part.view(len(window), 4, -1)[stay].flatten(0, 1) for part in rotary)
            window, places = window[stay], places[stay]
        x = x + block.mlp(block.norm2(x))
    back = places.argsort()
    encoded = qwen2_5_vl.encode(eager_qwen25, medium, Schedule(vision=schedule))
    assert [t.place for t in encoded.tokens] == places[back].tolist()
    assert encoded.counts == Counts(120, 2 * 4 * (15 - 4 - 2 - 1 - 2))
    features = torch.stack([t.embedding for t in encoded.tokens])
    torch.testing.assert_close(features, visual.merger(x)[back], **EAGER)


def test_time_decides_positions(qwen25):
    """Two positions a second: steps of 1.3 s and 0.4 s are 2.6 and 0.8 apart, cut to whole numbers.

    Earlier releases of `transformers` (5.17 is one) cut the seconds already, and are 2 and 0 apart.
    """
    result = reference(qwen25, QWEN25_PROMPTS["timed videos"], Schedule())
    steps = [position[0] for position in result.positions]
    cut = "int(next(second_per_grid_ts))" in inspect.getsource(Qwen2_5_VLModel.get_rope_index)
    third = 5 if cut else 6
    assert steps == [0, *[1] * 6, *[3] * 6, *[third] * 6, 4, *[5] * 12, 8]
