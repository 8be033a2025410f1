"""InternVL: tiles and frames one at a time, whole 2x2 groups merge, nothing has a newline."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.reference import llava
from tests.reference.merging import attend, merge, received
from tests.reference.values import Counts, Encoded, Medium, Schedule, Token

positions, packs, TYPED = llava.positions, True, False


def encode(model, medium: Medium, schedule: Schedule) -> Encoded:
    """Every tile through the tower, then all of them through the projector."""
    core, tokens, kept = model.model, [], []
    count = (core.vision_tower.embeddings.patch_embeddings.num_patches) // 4
    for number, pixels in enumerate(medium.pixel_values.to(model.dtype)):
        features, groups, kept_by_layer = tower_tile(core.vision_tower, pixels, schedule)
        projected = core.multi_modal_projector(features)
        tokens += [Token(f, "image", number * count + g) for f, g in zip(projected, groups, strict=True)]
        kept.append(kept_by_layer)
    length = len(medium.pixel_values) * count
    return Encoded(medium, tokens, length, Counts(length * 4, len(tokens) * 4), kept)


def tower_tile(tower, pixels: Tensor, schedule: Schedule):
    """A tile (3, S, S) -> features (n, 4 * C) of the groups that are left, these, and those left by layer.

    The patches of a group merge like with like, beside the class token, which is one of the queries.
    """
    x = tower.embeddings(pixels[None])[0]
    side = math.isqrt(len(x) - 1)
    corners = [(y, x) for y in range(0, side, 2) for x in range(0, side, 2)]
    where = [1 + (top + i) * side + left + j for top, left in corners for i in range(2) for j in range(2)]
    x, groups, kept_by_layer = x[[0, *where]], list(range(len(corners))), {}
    sizes = [1.0] * len(groups)
    for index, layer in enumerate(tower.encoder.layer):
        attn, normed = layer.attention, layer.layernorm_before(x)
        projected = attn.q_norm(attn.q_proj(normed)), attn.k_norm(attn.k_proj(normed)), attn.v_proj(normed)
        q, k, v = (y.unflatten(1, (attn.num_heads, -1)).transpose(0, 1) for y in projected)  # (H, 1 + N, D)
        own = [1.0] + [size for size in sizes for _ in range(4)]
        out, attention = attend(q, k, v, attn.scale, sizes=own if schedule.proportional else None)
        x = x + layer.lambda_1 * attn.projection_layer(out)
        if removed := math.floor(schedule.vision.get(index, 0) * len(groups)):
            each = received(attention, schedule.variant)[1:]
            scores = [sum(each[4 * g : 4 * g + 4]) / 4 for g in range(len(groups))]
            keys, grouped = k.mean(0)[1:].reshape(len(groups), -1), x[1:].unflatten(0, (len(groups), 4))
            merged, left, sizes = merge(grouped, keys, scores, sizes, removed, schedule.method, before=1)
            x, groups = torch.cat([x[:1], merged.flatten(0, 1)]), [groups[i] for i in left]
            kept_by_layer[index] = groups
        x = x + layer.lambda_2 * layer.mlp(layer.layernorm_after(x))
    return tower.layernorm(x)[1:].reshape(len(groups), -1), groups, kept_by_layer


def stock_inputs(model, images: list[Medium], videos: list[Medium]) -> dict:
    """Media as the unmodified model takes them, where all images come first."""
    media = [*images, *videos]
    return {"pixel_values": torch.cat([m.pixel_values for m in media])} if media else {}
