"""The decoder of every family: one sequence, no cache, a merge before each layer of the schedule."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from tests.reference.merging import attend, members, weighted_sum
from tests.reference.values import Encoded, Result, Schedule, Token, length_of


def lay_out(family, model, turns: list[list], schedule: Schedule) -> tuple[list[Token], int]:
    """The decoder's input, every token with its position, and the position at which decoding goes on.

    That is the position of one more text token: for Qwen the last text token's plus one, as in HF's generate.
    """
    packed = schedule.positions == "packed" and family.packs
    ids = family.positions(model, [piece for pieces in turns for piece in pieces] + [[0]])
    sequence, offset, media = [], 0, 0
    for turn, pieces in enumerate(turns):
        for piece in pieces:
            if isinstance(piece, Encoded):
                tokens, medium = piece.tokens, media
                together = ("run", piece.medium.run) if piece.medium.run is not None else media
                media += 1
            else:
                embeddings = model.get_input_embeddings()(torch.tensor(piece, dtype=torch.long))
                tokens = [Token(x, "text", place) for place, x in enumerate(embeddings)]
                medium = together = None
            for token in tokens:
                position = (len(sequence),) if packed else tuple(ids[:, offset + token.place].tolist())
                own = {"position": position, "turn": turn, "medium": medium, "together": together}
                sequence.append(replace(token, **own))
            offset += length_of(piece)
    return sequence, len(sequence) if packed else int(ids[0, -1])


def decoder_layer(layer, x: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """One stock decoder layer on (T, C), causal, its attention map (H, T, T), and its keys' mean (T, D)."""
    return causal_layer(layer, x, rotary)


def causal_layer(layer, x: Tensor, rotary: tuple[Tensor, Tensor], q_norm=None, k_norm=None):
    """`decoder_layer`, with norms of each head's queries and keys where the model has them."""
    attn, normed = layer.self_attn, layer.input_layernorm(x)
    qkv = [project(normed) for project in (attn.q_proj, attn.k_proj, attn.v_proj)]
    qkv = [x.unflatten(1, (-1, attn.head_dim)) for x in qkv]  # (T, heads, D)
    norms = [norm or (lambda x: x) for norm in (q_norm, k_norm, None)]
    q, k, v = (norm(x).transpose(0, 1) for norm, x in zip(norms, qkv, strict=True))
    q, k = (x[0] for x in apply_rotary_pos_emb(q[None], k[None], *rotary))
    keys = k.mean(0)
    k, v = (x.repeat_interleave(attn.num_key_value_groups, dim=0) for x in (k, v))
    out, attention = attend(q, k, v, attn.scaling, causal=True)
    x = x + attn.o_proj(out)
    fed = layer.mlp(layer.post_attention_layernorm(x)[None])[0]  # experts want a batch
    return x + fed, attention, keys


def llm_scores(attention: Tensor, ranked: list[int], last: int, queries: str) -> list[float]:
    """The score of each ranked token (they and `last` index the map), by the attention of `queries`."""
    rows = attention.double().mean(0).tolist()
    if queries == "last":
        return [rows[last][i] for i in ranked]
    totals = [sum(rows[k][i] for k in ranked if k != i) for i in ranked]
    others = len(ranked) - 1
    if queries == "visual-literal":
        return [total / others for total in totals]
    return [total / (others - i) if i < others else math.inf for i, total in enumerate(totals)]


def llm_merge(
    x: Tensor, alive: list[int], sequence: list[Token], seen: tuple, sizes: list[float], keep: float, schedule
):
    """Before layer K, by map and keys of layer K-1: a medium's n ranked tokens lose round(n * (1 - keep)).

    FastV's code keeps round(n * keep) of them instead.

    With scope "all" the media of a turn rank together. Returns x, the alive indices and their sizes without
    the removed.
    """
    attention, keys = seen
    kinds = ("image", "row") if schedule.variant == "authors" else ("image",)
    groups: dict[tuple, list[int]] = {}
    for i, token in enumerate(sequence[a] for a in alive):
        if token.kind in kinds:
            together = token.together if schedule.scope == "medium" else None
            groups.setdefault((token.turn, together), []).append(i)
    gone, pooled, grown = set(), {}, {}
    for (turn, _), ranked in groups.items():
        n = len(ranked)
        if r := n - round(n * keep) if schedule.method == "fastv" else round(n * (1 - keep)):
            last = max(i for i, a in enumerate(alive) if sequence[a].turn == turn)
            if sequence[alive[last]].kind != "text":
                raise ValueError("a turn must end with text")
            scores, own = llm_scores(attention, ranked, last, schedule.queries), [sizes[i] for i in ranked]
            found = members(schedule.method, keys[ranked], scores, own, r)
            gone |= set(ranked) - {ranked[i] for i in found}
            for survivor, parts in found.items():
                if len(parts) > 1:
                    weights = [(ranked[i], weight) for i, weight in parts.items()]
                    pooled[ranked[survivor]] = weighted_sum(x, weights)
                    grown[ranked[survivor]] = sum(own[i] for i in parts)
    left = [i for i in range(len(alive)) if i not in gone]
    x = torch.stack([pooled.get(i, x[i]) for i in left])
    return x, [alive[i] for i in left], [grown.get(i, sizes[i]) for i in left]


def run(family, model, turns: list[list], schedule: Schedule) -> Result:
    """The decoder over turns of token ids and encoded media; `family` as in `tests.reference.FAMILIES`."""
    text = model.model.language_model
    if any(not 1 <= index < len(text.layers) for index in schedule.llm):
        raise ValueError(f"llm layers {sorted(schedule.llm)}, but they go from 1 to {len(text.layers) - 1}")
    kinds = getattr(text.config, "layer_types", None) or []
    if "sliding_attention" in kinds or getattr(text.config, "sliding_window", None):
        raise ValueError("sliding windows are not part of this reference")
    sequence, next_position = lay_out(family, model, turns, schedule)
    x = torch.stack([token.embedding for token in sequence])  # (T, C)
    depth = max(len(token.taps) for token in sequence)
    nothing = (x.new_zeros(x.shape[1]),) * depth
    taps = torch.stack(
        [torch.cat([x[0, :0], *(token.taps or nothing)]) for token in sequence]
    )  # (T, depth * C)
    run_layer = getattr(family, "decoder_layer", decoder_layer)
    alive, sizes, seen, llm_kept = list(range(len(sequence))), [1.0] * len(sequence), None, {}
    for index, layer in enumerate(text.layers):
        if index in schedule.llm:
            both = torch.cat([x, taps], dim=1)  # taps merge as their tokens do
            both, alive, sizes = llm_merge(both, alive, sequence, seen, sizes, schedule.llm[index], schedule)
            x, taps = both.tensor_split([x.shape[1]], dim=1)
            llm_kept[index] = alive
        positions = torch.tensor([sequence[a].position for a in alive]).T  # (1 or 3, T)
        positions = positions[:, None] if len(positions) == 3 else positions
        x, *seen = run_layer(layer, x, text.rotary_emb(x[None], positions))
        if index < depth:
            x = x + taps.split(x.shape[1], dim=1)[index]

    media = [piece for pieces in turns for piece in pieces if isinstance(piece, Encoded)]
    counts = [replace(piece.counts) for piece in media]
    for token in sequence:
        if token.medium is not None:
            counts[token.medium].llm_in += token.kind == "image"
            counts[token.medium].newlines_in += token.kind != "image"
    for token in (sequence[a] for a in alive):
        if token.medium is not None:
            counts[token.medium].llm_kept += token.kind == "image"
            counts[token.medium].newlines_kept += token.kind != "image"
    return Result(
        logits=model.lm_head(text.norm(x[-1])),
        counts=counts,
        prompt_tokens=len(sequence),
        next_position=next_position,
        positions=[token.position for token in sequence],
        vision_kept=[piece.kept for piece in media],
        llm_kept=llm_kept,
    )
