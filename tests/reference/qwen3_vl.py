"""Qwen3-VL: as Qwen2-VL, with learned positions, DeepStack, and frames that stand alone in the prompt."""

import torch
from torch import Tensor
from transformers.vision_utils import get_vision_interpolation_indices_and_weights

from tests.reference import qwen2_vl
from tests.reference.decoder import causal_layer
from tests.reference.values import Encoded, Medium, Schedule


def places(visual, h: int, w: int, where: list[tuple[int, int]]) -> Tensor:
    """(h * w, C) the learned positions at each patch; HF's weights are float32 in every model."""
    side = round(len(visual.pos_embed.weight) ** 0.5)
    grid = torch.tensor([[1, h, w]])
    taps, weights = get_vision_interpolation_indices_and_weights(grid, side, align_corners=True)
    table = visual.pos_embed.weight
    raster = [
        sum(v * table[t] for t, v in zip(*both, strict=True)) for both in zip(taps, weights, strict=True)
    ]
    return torch.stack([raster[y * w + x] for y, x in where])


def tap(visual, index: int, x: Tensor) -> Tensor | None:
    """(groups, C) what a layer hands to the decoder."""
    if index not in visual.deepstack_visual_indexes:
        return None
    return visual.deepstack_merger_list[visual.deepstack_visual_indexes.index(index)](x)


def encode(model, medium: Medium, schedule: Schedule) -> Encoded:
    """As `qwen2_vl.encode`."""
    return qwen2_vl.encode(model, medium, schedule, places=places, tap=tap)


def decoder_layer(layer, x: Tensor, rotary: tuple[Tensor, Tensor]):
    """As `decoder.decoder_layer`, with queries and keys normed."""
    attn = layer.self_attn
    return causal_layer(layer, x, rotary, attn.q_norm, attn.k_norm)


def stock_inputs(model, images: list[Medium], videos: list[Medium]) -> dict:
    """Media as the unmodified model takes them: the frames of a run are one video."""
    runs: dict[int, list[Medium]] = {}
    for frame in videos:
        runs.setdefault(frame.run, []).append(frame)
    whole = [
        Medium(
            "video",
            torch.cat([frame.pixel_values for frame in frames]),
            grid_thw=(len(frames), *frames[0].grid_thw[1:]),
        )
        for frames in runs.values()
    ]
    return qwen2_vl.stock_inputs(model, images, whole)


positions, packs, TYPED = qwen2_vl.positions, False, True
