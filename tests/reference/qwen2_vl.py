"""Qwen2-VL: each temporal frame alone, whole 2x2 groups merge, positions are (t, h, w)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

from tests.reference.merging import attend, merge, received
from tests.reference.tower import thin
from tests.reference.values import Counts, Encoded, Medium, Schedule, Token

packs = False
TYPED = True


def encode(
    model,
    medium: Medium,
    schedule: Schedule,
    windows: Callable = lambda *_: None,
    places: Callable = lambda *_: 0,
    tap: Callable = lambda *_: None,
) -> Encoded:
    """A frame is an attention segment of its own; the patches of a group merge like with like.

    `windows`: as `qwen2_5_vl.windows`; `places`, `tap`: as in `qwen3_vl`. What a patch receives in its window
    is given in multiples of 1/n, n being the patches that are left in the window.
    """
    visual = model.model.visual
    if any(not 0 <= index < len(visual.blocks) for index in schedule.vision):
        raise ValueError(f"vision layers {sorted(schedule.vision)}, but there are {len(visual.blocks)}")
    (t, h, w), s = medium.grid_thw, visual.spatial_merge_size
    unit, per_frame = s * s, h * w // (s * s)
    corners = [(y, x) for y in range(0, h, s) for x in range(0, w, s)]
    where = [(y + i, x + j) for y, x in corners for i in range(s) for j in range(s)]  # HF's order: by group
    freq = visual.rotary_pos_emb.inv_freq.float()
    angles = torch.stack([torch.cat([y * freq, x * freq]).repeat(2) for y, x in where])  # (h*w, D)
    kept, made, places_left, judged = [], [], [], []  # of each frame
    for pixels in medium.pixel_values.to(model.dtype).view(t, h * w, -1):
        x = visual.patch_embed(pixels) + places(visual, h, w, where)  # (h*w, C)
        groups, sizes, kept_by_layer = list(range(per_frame)), [1.0] * per_frame, {}
        taps = x.new_zeros(per_frame, 0)  # of each group, one after another: they merge as it does
        for index, block in enumerate(visual.blocks):
            attn = block.attn
            q, k, v = attn.qkv(block.norm1(x)).unflatten(1, (3, attn.num_heads, -1)).unbind(1)  # (N, H, D)
            own = angles.unflatten(0, (per_frame, unit))[groups].flatten(0, 1)  # of each survivor's anchor
            q, k = apply_rotary_pos_emb_vision(q, k, own.cos(), own.sin())
            patch_sizes = [size for size in sizes for _ in range(unit)]
            out, each = torch.empty_like(x), torch.empty(len(x), dtype=torch.float64)
            windowed = windows(visual, index, groups, w // s)
            for members in windowed or [range(len(groups))]:
                rows = [g * unit + i for g in members for i in range(unit)]
                seen = (y[rows].transpose(0, 1) for y in (q, k, v))
                own_sizes = [patch_sizes[row] for row in rows] if schedule.proportional else None
                out[rows], attention = attend(*seen, attn.scaling, sizes=own_sizes)
                factor = len(rows) if windowed else 1
                each[rows] = torch.tensor(received(attention, schedule.variant), dtype=torch.float64) * factor
            x = x + attn.proj(out)
            scores = each.view(-1, unit).mean(1).tolist()
            keys = k.mean(1).reshape(len(groups), -1)
            if removed := math.floor(schedule.vision.get(index, 0) * len(groups)):
                grouped = x.unflatten(0, (len(groups), unit))
                both = torch.cat([grouped.flatten(1), taps], dim=1)
                both, left, sizes = merge(both, keys, scores, sizes, removed, schedule.method)
                x, taps = both.tensor_split([grouped[0].numel()], dim=1)
                x, groups = x.reshape(-1, grouped.shape[-1]), [groups[i] for i in left]
                scores, keys = [scores[i] for i in left], keys[left]
                kept_by_layer[index] = groups
            x = x + block.mlp(block.norm2(x))
            if (given := tap(visual, index, x)) is not None:
                taps = torch.cat([taps, given], dim=1)
        features = visual.merger(x)  # (groups, C)
        made.append(torch.cat([features, taps], dim=1))  # what is tapped is as wide, each
        places_left.append(groups)
        judged.append((scores, keys, sizes))
        kept.append(kept_by_layer)
    counts = Counts(t * h * w, sum(map(len, made)) * unit)
    if schedule.input:
        found = thin(made, judged, [set()] * t, *schedule.input)
        made = [x for x, _ in found]
        places_left = [[own[i] for i in left] for own, (_, left) in zip(places_left, found, strict=True)]
    tokens = [
        Token(first, "image", frame * per_frame + g, taps=tuple(more))
        for frame, (own, x) in enumerate(zip(places_left, made, strict=True))
        for g, (first, *more) in zip(own, (row.split(features.shape[1]) for row in x), strict=True)
    ]
    return Encoded(medium, tokens, t * per_frame, counts, kept)


def positions(model, pieces: list) -> Tensor:
    """(3, L): of every token without merging, by HF's get_rope_index."""
    types, grids, seconds = [], {"image": [], "video": []}, []
    for piece in pieces:
        if isinstance(piece, Encoded):
            grids[piece.medium.kind].append(piece.medium.grid_thw)
            types += [{"image": 1, "video": 2}[piece.medium.kind]] * piece.length
            seconds += [piece.medium.seconds] if piece.medium.seconds else []
        else:
            types += [0] * len(piece)
    ids, _ = model.model.get_rope_index(
        torch.zeros(1, len(types), dtype=torch.long),
        mm_token_type_ids=torch.tensor([types]),
        **{f"{kind}_grid_thw": torch.tensor(own) for kind, own in grids.items() if own},
        **({"second_per_grid_ts": torch.tensor(seconds)} if seconds else {}),
    )
    return ids[:, 0]


def stock_inputs(model, images: list[Medium], videos: list[Medium]) -> dict:
    """Media as the unmodified model takes them."""
    inputs = {}
    if images:
        inputs["pixel_values"] = torch.cat([m.pixel_values for m in images])
        inputs["image_grid_thw"] = torch.tensor([m.grid_thw for m in images])
    if videos:
        inputs["pixel_values_videos"] = torch.cat([m.pixel_values for m in videos])
        inputs["video_grid_thw"] = torch.tensor([m.grid_thw for m in videos])
        if seconds := [m.seconds for m in videos if m.seconds]:
            inputs["second_per_grid_ts"] = torch.tensor(seconds)
    return inputs
