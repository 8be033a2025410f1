"""Gemma 4: images and frames one at a time, whole 3x3 cells merge; a decoder with windows and shared keys.

`transformers` computes norms and angles in float32, whose last bits depend on where in memory a number lies.
`exact` lets it compute in float64 what is in float64, so that the two are comparable.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor
from transformers.models.gemma4.modeling_gemma4 import (
    Gemma4RMSNorm,
    Gemma4TextRotaryEmbedding,
    Gemma4VisionRotaryEmbedding,
    apply_rotary_pos_emb,
)

from tests.reference import llava
from tests.reference.decoder import lay_out
from tests.reference.merging import merge, received
from tests.reference.values import Counts, Encoded, Medium, Result, Schedule, Token

positions, packs = llava.positions, True
SIDE, PATCH = 3, 16


def exact(monkeypatch) -> None:
    """Let `transformers` compute norms and angles of a float64 model in float64."""

    def norm(self, x: Tensor) -> Tensor:
        normed = self._norm(x if x.dtype == torch.float64 else x.float())
        return (normed * self.weight.to(normed) if self.with_scale else normed).type_as(x)

    def angles(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        turned = positions[..., None].double() * frequencies.double()
        return turned.cos(), turned.sin()

    def of_text(self, x: Tensor, position_ids: Tensor, layer_type: str) -> tuple[Tensor, ...]:
        both = angles(position_ids, getattr(self, f"{layer_type}_inv_freq"))
        return tuple(torch.cat([y, y], dim=-1).to(x.dtype) for y in both)

    def of_patches(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, ...]:
        both = angles(position_ids, self.inv_freq)  # (B, N, 2, D / 4)
        return tuple(y.repeat_interleave(2, dim=2).flatten(2).to(x.dtype) for y in both)

    monkeypatch.setattr(Gemma4RMSNorm, "forward", norm)
    monkeypatch.setattr(Gemma4TextRotaryEmbedding, "forward", of_text)
    monkeypatch.setattr(Gemma4VisionRotaryEmbedding, "forward", of_patches)


# --- tower -----------------------------------------------------------------------------------------


def encode(model, medium: Medium, schedule: Schedule) -> Encoded:
    """The patches of an image or frame, cell by cell, through tower, pooling and projector."""
    core = model.model
    (patches,) = medium.pixel_values
    _, rows, columns = medium.grid_thw
    x, cells, kept, last = tower_frame(core.vision_tower, patches, places(rows, columns), schedule)
    count = len(cells)
    pooled = pool(core.vision_tower, x.unflatten(0, (-1, SIDE**2)))
    features = core.embed_vision(pooled)
    if schedule.input:
        method, keep = schedule.input
        r = count - max(1, round(count * keep))
        features, left, _ = merge(features, last[1], last[0], last[2], r, method)
        cells = [cells[i] for i in left]
    tokens = [Token(f, "image", cell) for f, cell in zip(features, cells, strict=True)]
    counts = Counts(rows * columns, count * SIDE**2)
    return Encoded(medium, tokens, rows * columns // SIDE**2, counts, [kept])


def places(rows: int, columns: int) -> Tensor:
    """(patches, 2) column and row of each, cell by cell."""
    corners = [(y, x) for y in range(0, rows, SIDE) for x in range(0, columns, SIDE)]
    return torch.tensor([(x + j, y + i) for y, x in corners for i in range(SIDE) for j in range(SIDE)])


def tower_frame(tower, patches: Tensor, where: Tensor, schedule: Schedule):
    """(N * 9, C) behind the last layer, the cells left, those left by layer, and scores, keys and sizes."""
    embedder, n = tower.patch_embedder, SIDE**2
    weight = embedder.input_proj.weight
    x = (2 * (patches - 0.5)).to(weight.dtype) @ weight.T
    x = x + sum(embedder.position_embedding_table[axis][where[:, axis]] for axis in range(2))
    cells, kept_by_layer = list(range(len(where) // n)), {}
    sizes = [1.0] * len(cells)
    for index, layer in enumerate(tower.encoder.layers):
        attn, normed = layer.self_attn, layer.input_layernorm(x)
        cos, sin = tower.encoder.rotary_emb(x[None], where[None])
        q, k, v = (
            norm(project(normed).unflatten(1, (-1, attn.head_dim)))
            for norm, project in (
                (attn.q_norm, attn.q_proj),
                (attn.k_norm, attn.k_proj),
                (attn.v_norm, attn.v_proj),
            )
        )  # (N, H, D)
        half = attn.head_dim // 2
        turned = [
            torch.cat(
                [
                    apply_rotary_pos_emb(y[None, ..., part], cos[..., part], sin[..., part], 2)[0]
                    for part in (slice(half), slice(half, None))
                ],
                dim=-1,
            )
            for y in (q, k)
        ]
        q, k, v = (y.transpose(0, 1) for y in (*turned, v))
        logits = q @ k.transpose(1, 2)
        if schedule.proportional:
            logits = logits + torch.tensor(sizes, dtype=x.dtype).log().repeat_interleave(n)
        attention = torch.softmax(logits, dim=-1)
        out = attn.o_proj((attention @ v).transpose(0, 1).flatten(1))
        x = x + layer.post_attention_layernorm(out)
        each = received(attention, schedule.variant)
        scores = [sum(each[n * c : n * c + n]) / n for c in range(len(cells))]
        keys = k.mean(0).reshape(len(cells), -1)
        if removed := math.floor(schedule.vision.get(index, 0) * len(cells)):
            grouped = torch.cat([x, where.to(x.dtype)], dim=1).unflatten(0, (len(cells), n))
            merged, left, sizes = merge(grouped, keys, scores, sizes, removed, schedule.method)
            x, cells = merged[..., : x.shape[1]].flatten(0, 1), [cells[i] for i in left]
            where = where.unflatten(0, (-1, n))[left].flatten(0, 1)
            scores, keys = [scores[i] for i in left], keys[left]
            kept_by_layer[index] = cells
        x = x + layer.post_feedforward_layernorm(layer.mlp(layer.pre_feedforward_layernorm(x)))
    return x, cells, kept_by_layer, (scores, keys, sizes)


def pool(tower, cells: Tensor) -> Tensor:
    """(M, 9, C) -> (M, C)."""
    pooled = torch.stack([sum(cell) / len(cell) for cell in cells]) * cells.shape[-1] ** 0.5
    if tower.config.standardize:
        pooled = (pooled - tower.std_bias) * tower.std_scale
    return pooled


# --- decoder ---------------------------------------------------------------------------------------


def run(model, turns: list[list], schedule: Schedule) -> Result:
    """The decoder over turns of token ids and encoded media; nothing merges in it."""
    if schedule.llm:
        raise ValueError("nothing merges in this decoder")
    text = model.model.language_model
    config, here = text.config, sys.modules[__name__]
    sequence, next_position = lay_out(here, model, turns, schedule)
    x = torch.stack([token.embedding for token in sequence])
    where = torch.tensor([token.position[0] for token in sequence])[None]
    own = per_layer(text, x, turns)
    shared: dict[str, tuple[Tensor, Tensor]] = {}
    for index, layer in enumerate(text.layers):
        kind = config.layer_types[index]
        rotary = text.rotary_emb(x[None], where, kind)
        x = decoder_layer(layer, x, rotary, seen(sequence, kind, config), shared)
        if own is not None:
            gated = layer.act_fn(layer.per_layer_input_gate(x)) * own[:, index]
            x = x + layer.post_per_layer_input_norm(layer.per_layer_projection(gated))
        x = x * layer.layer_scalar
    media = [piece for pieces in turns for piece in pieces if isinstance(piece, Encoded)]
    for piece in media:
        piece.counts.llm_in = piece.counts.llm_kept = len(piece.tokens)
    logits = model.lm_head(text.norm(x[-1]))
    cap = config.final_logit_softcapping
    return Result(
        logits=cap * torch.tanh(logits / cap),
        counts=[piece.counts for piece in media],
        prompt_tokens=len(sequence),
        next_position=next_position,
        positions=[token.position for token in sequence],
        vision_kept=[piece.kept for piece in media],
        llm_kept={},
    )


def per_layer(text, x: Tensor, turns: list[list]) -> Tensor | None:
    """(T, layers, P) each token's own embeddings, with what its first embedding gives."""
    if not text.hidden_size_per_layer_input:
        return None
    ids = []
    for piece in (piece for pieces in turns for piece in pieces):
        media = isinstance(piece, Encoded)
        ids += [text.config.pad_token_id] * len(piece.tokens) if media else piece
    width = text.hidden_size_per_layer_input
    own = text.embed_tokens_per_layer(torch.tensor(ids)).unflatten(1, (-1, width))
    given = text.per_layer_model_projection(x) * x.shape[1] ** -0.5
    return (text.per_layer_projection_norm(given.unflatten(1, (-1, width))) + own) * 2**-0.5


def seen(sequence: list[Token], kind: str, config) -> Tensor:
    """(T, T) which token sees which: earlier ones, in the window its own image's later ones too."""
    count = len(sequence)
    mask = torch.zeros(count, count, dtype=torch.bool)
    both_ways = config.use_bidirectional_attention == "vision"
    for query in range(count):
        for key in range(count):
            mask[query, key] = key <= query
            if kind == "sliding_attention":
                medium = sequence[query].medium
                if both_ways and medium is not None and medium == sequence[key].medium:
                    mask[query, key] = True
                if query - key >= config.sliding_window:
                    mask[query, key] = False
    return mask


def decoder_layer(layer, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor, shared: dict) -> Tensor:
    """(T, C) through attention, MLP and experts."""
    attn, normed = layer.self_attn, layer.input_layernorm(x)
    q = attn.q_norm(attn.q_proj(normed).unflatten(1, (-1, attn.head_dim)))
    q = apply_rotary_pos_emb(q[None], *rotary, 2)[0].transpose(0, 1)
    if attn.is_kv_shared_layer:
        k, v = shared[attn.layer_type]
    else:
        k = attn.k_proj(normed).unflatten(1, (-1, attn.head_dim))
        v = k if attn.v_proj is None else attn.v_proj(normed).unflatten(1, (-1, attn.head_dim))
        k = apply_rotary_pos_emb(attn.k_norm(k)[None], *rotary, 2)[0].transpose(0, 1)
        k, v = (y.repeat_interleave(len(q) // len(k), dim=0) for y in (k, attn.v_norm(v).transpose(0, 1)))
        shared[attn.layer_type] = k, v  # of the last layer that has its own
    attention = torch.softmax((q @ k.transpose(1, 2)).masked_fill(~mask, -math.inf), dim=-1)
    out = attn.o_proj((attention @ v).transpose(0, 1).flatten(1))
    x = x + layer.post_attention_layernorm(out)
    fed = layer.mlp(layer.pre_feedforward_layernorm(x))
    if layer.enable_moe_block:
        fed = layer.post_feedforward_layernorm_1(fed) + layer.post_feedforward_layernorm_2(experts(layer, x))
    return x + layer.post_feedforward_layernorm(fed)


def experts(layer, x: Tensor) -> Tensor:
    """(T, C) of the experts that each token is sent to."""
    _, weights, chosen = layer.router(x)
    pool, normed = layer.experts, layer.pre_feedforward_layernorm_2(x)
    rows = []
    for token, own, numbers in zip(normed, weights, chosen, strict=True):
        row = torch.zeros_like(token)
        for weight, number in zip(own, numbers.tolist(), strict=True):
            gate, up = (pool.gate_up_proj[number] @ token).chunk(2)
            row = row + weight * (pool.down_proj[number] @ (pool.act_fn(gate) * up))
        rows.append(row)
    return torch.stack(rows)
