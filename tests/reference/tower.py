"""The tower of the LLaVA families: one tile or frame at a time through the stock layers' submodules."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tests.reduction import slow
from tests.reference.merging import attend, merge, received
from tests.reference.values import Schedule


@dataclass
class Cell:
    """A survivor of one tile, at its anchor's row and column."""

    y: int
    x: int
    feature: Tensor
    score: float  # of its anchor, at the last layer that merged


def tower_tile(tower, pixels: Tensor, schedule: Schedule, config, padding: set[int]):
    """One tile (3, S, S) through the layers that make the features, merging between attention and MLP.

    CLIP's class token stands before the patches: it looks at them and is not one of those that merge.
    Returns features (n, C), the cell and last score of each survivor's anchor, and the cells kept by layer.
    """
    wanted = config.vision_feature_layer  # an index into HF's hidden_states, whose first is the embedding
    layers = tower.encoder.layers[: wanted if wanted >= 0 else len(tower.encoder.layers) + 1 + wanted]
    if any(not 0 <= index < len(layers) for index in schedule.vision):
        raise ValueError(f"vision layers {sorted(schedule.vision)}, but the features need {len(layers)}")
    x = tower.embeddings(pixels[None])[0]  # (N, C)
    clip = config.vision_config.model_type == "clip_vision_model"
    first, x = (1, tower.pre_layrnorm(x)) if clip else (0, x)
    n = len(x) - first
    cells, scores, sizes, kept_by_layer = list(range(n)), [0.0] * n, [1.0] * n, {}
    for index, layer in enumerate(layers):
        attn, normed = layer.self_attn, layer.layer_norm1(x)
        qkv = [project(normed) for project in (attn.q_proj, attn.k_proj, attn.v_proj)]
        qkv = [x.unflatten(1, (attn.num_heads, -1)).transpose(0, 1) for x in qkv]  # (H, N, D)
        out, attention = attend(
            *qkv, attn.scale, sizes=[1.0] * first + sizes if schedule.proportional else None
        )
        x = x + attn.out_proj(out)
        if r := schedule.vision.get(index, 0):
            scores = received(attention, schedule.variant)[first:]
            padded = {i for i, cell in enumerate(cells) if cell in padding}
            keys = qkv[1].mean(0)[first:]
            left, kept, sizes = merge(x[first:], keys, scores, sizes, r, schedule.method, padded, first)
            x = torch.cat([x[:first], left])
            cells, scores = [cells[i] for i in kept], [scores[i] for i in kept]
            kept_by_layer[index] = cells
        # CLIP's class token judges what is left of the tower, unless the last layer merges
        judged = attention.double().mean(0)[0].tolist() if clip else received(attention, schedule.variant)
        last = judged[first:], qkv[1].mean(0)[first:], sizes
        x = x + layer.mlp(layer.layer_norm2(x))
    return x[first:], cells, scores, kept_by_layer, last


def thin_out(tiles: list[list[Cell]], seen: list, padding: list[set[int]], method: str, keep: float | None):
    """As many cells of each tile, as `thin` chooses them."""
    rows = [torch.stack([cell.feature for cell in cells]) for cells in tiles]
    found = thin(rows, seen, padding, method, keep)
    return [
        [replace(cells[i], feature=f, score=scores[i]) for i, f in zip(kept, x, strict=True)]
        for cells, (scores, _, _), (x, kept) in zip(tiles, seen, found, strict=True)
    ]


def thin(rows: list[Tensor], seen: list, padding: list[set[int]], method: str, keep: float | None):
    """As many tokens of each tile: a share of them, or as many as stand out where most do.

    Args:
        rows: (n, C) of each tile.
        seen: of each tile its tokens' scores, keys and sizes, at the tower's last layer.

    Returns what remains of each tile, and which of its tokens these are.
    """
    if keep is None:
        bare = zip(seen, padding, strict=True)
        left = max(
            slow.outliers([s for i, s in enumerate(scores) if i not in p]) for (scores, _, _), p in bare
        )
    else:
        left = round(len(rows[0]) * keep)
    found = []
    for x, (scores, keys, sizes), padded in zip(rows, seen, padding, strict=True):
        x, kept, _ = merge(x, keys, scores, sizes, len(x) - max(1, left), method, padded)
        found.append((x, kept))
    return found
