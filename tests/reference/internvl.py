"""InternVL: tiles and frames one at a time, whole 2x2 groups merge, nothing has a newline."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.reference import llava
from tests.reference.merging import attend, merge, received
from tests.reference.tower import thin
from tests.reference.values import Counts, Encoded, Medium, Schedule, Token

positions, packs, TYPED = llava.positions, True, False


def encode(model, medium: Medium, schedule: Schedule) -> Encoded:
    """Every tile through the tower, then all of them through the projector."""
    core, rows, places, seen, kept = model.model, [], [], [], []
    count = (core.vision_tower.embeddings.patch_embeddings.num_patches) // 4
    for pixels in medium.pixel_values.to(model.dtype):
        features, groups, kept_by_layer, last = tower_tile(core.vision_tower, pixels, schedule)
        rows.append(core.multi_modal_projector(features))
        places.append(groups)
        seen.append(last)
        kept.append(kept_by_layer)
    length = len(rows) * count
    counts = Counts(length * 4, sum(map(len, rows)) * 4)
    if schedule.input:
        found = thin(rows, seen, [set()] * len(rows), *schedule.input)
        rows = [x for x, _ in found]
        places = [[own[i] for i in left] for own, (_, left) in zip(places, found, strict=True)]
    tokens = [
        Token(f, "image", number * count + g)
        for number, (own, x) in enumerate(zip(places, rows, strict=True))
        for g, f in zip(own, x, strict=True)
    ]
    return Encoded(medium, tokens, length, counts, kept)


def tower_tile(tower, pixels: Tensor, schedule: Schedule):
    """A tile (3, S, S) -> features (n, 4 * C) of the groups that are left, these, and those left by layer.

    The patches of a group merge like with like, beside the class token, which is one of the queries. Last are
    scores, keys and sizes after the last layer, where the class token alone judges unless that layer merges.
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
        keys, judged = k.mean(0)[1:].reshape(len(groups), -1), attention.double().mean(0)[0, 1:]
        scores = judged.view(-1, 4).mean(1).tolist()
        if removed := math.floor(schedule.vision.get(index, 0) * len(groups)):
            each, grouped = received(attention, schedule.variant)[1:], x[1:].unflatten(0, (len(groups), 4))
            scores = [sum(each[4 * g : 4 * g + 4]) / 4 for g in range(len(groups))]
            merged, left, sizes = merge(grouped, keys, scores, sizes, removed, schedule.method, before=1)
            x, groups = torch.cat([x[:1], merged.flatten(0, 1)]), [groups[i] for i in left]
            kept_by_layer[index] = groups
            scores, keys = [scores[i] for i in left], keys[left]
        x = x + layer.lambda_2 * layer.mlp(layer.layernorm_after(x))
    last = scores, keys, sizes
    return tower.layernorm(x)[1:].reshape(len(groups), -1), groups, kept_by_layer, last


def stock_inputs(model, images: list[Medium], videos: list[Medium]) -> dict:
    """Media as the unmodified model takes them, where all images come first."""
    media = [*images, *videos]
    return {"pixel_values": torch.cat([m.pixel_values for m in media])} if media else {}
