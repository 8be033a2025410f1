"""The two loops over the decoder's layers: a prompt's with the merge points in it, and a step of one token.

Before layer K the visual tokens merge by the attention they received in layer K-1. From there on
hidden states, positions (each survivor keeps its own), masks and KV cache are shorter.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from illava_cli.models.cache import MergeCache, Places
from illava_cli.models.decoder_merge import Prompt, Scoring
from illava_cli.models.hf import CACHE
from illava_cli.models.host import to_device
from illava_cli.models.layers import Layers, Rope, attends
from illava_cli.models.prefill import Prefill
from illava_cli.models.states import Chosen
from illava_cli.trace import VISUAL

T = TypeVar("T")


def compile_decoder(text_model: nn.Module) -> None:
    """Compile what does not see the cache, which differs from layer to layer and grows with every token."""
    for layer in text_model.layers:
        for part in (layer.input_layernorm, layer.post_attention_layernorm, layer.mlp):
            part.compile(dynamic=True)


def prefill(
    layers: Layers, new: Prefill, cache: MergeCache, chunk: int | None = None
) -> Generator[None, None, tuple[Tensor, Prompt]]:
    """New tokens through all layers; pauses between the parts of a long prompt.

    Several rows begin in an empty cache; one may go on from what it holds.

    Args:
        chunk: tokens of one row that go through the layers at a time; None: all.

    Returns:
        (B, C) each row's last token, normed, since no other has logits; and what is left of the prompt.

    Raises:
        MergeError: a reduction did not happen as scheduled.
    """
    rows = len(new.lengths)
    if not cache.rows:
        cache.begin(rows)
    for layer in new.merge_points:
        cache.open_depth(layer)
    prompt = Prompt.of(new, *layers.opened(new.embeds, new.position_ids))
    depth = len(layers.blocks)
    watched = new.trace is not None and new.trace.watched
    tail = depth if watched else layers.tail
    borders = [0, *(layer for layer in sorted(new.merge_points) if prompt.rankable), tail]

    scores = shared = None
    for first, stop in pairwise(borders):
        if first:
            prompt = prompt.merged(first, new.merge_points[first], scores, new.trace)
        scoring = Scoring(prompt, cache.lengths(first)[0], new.merge_points.get(stop), new.trace, layers)
        in_parts = chunk and rows == 1 and new.trace is None and not (layers.whole and prompt.has_media)
        size = chunk if in_parts else prompt.tokens
        given = []
        for start in range(0, prompt.tokens, size):
            if start or first:
                yield
            part, shared = prompt.part(start, start + size), layers.shared()
            given.append(_through(layers, part, cache, first, stop, shared, scoring, start))
        prompt = prompt.with_hidden(torch.cat(given, dim=1) if len(given) > 1 else given[0])
        scores, prompt = scoring.scores, prompt.with_keys(scoring.keys)
    last = prompt.last() if tail == depth else _through_tail(layers, prompt, cache, shared)
    cache.verify(new.planned(depth))
    cache.next_position = list(new.next_position)
    # a slice of all tokens would have strides for which PyTorch copies the whole output head before the
    # product (0.5 s of a bfloat16 prefill of LLaVA-OneVision-0.5B on two CPU cores)
    return layers.norm(last.contiguous()), prompt


def _through(
    layers: Layers,
    part: Prompt,
    cache: MergeCache,
    first: int,
    stop: int,
    shared: Any,
    scoring: Scoring,
    start: int,
) -> Tensor:
    """A part of a prompt, from its token `start` on, through the layers `first` to `stop`.

    Args:
        shared: where these layers leave what later ones take.
    """
    hidden_states, masks = part.hidden_states, {}
    cache.place(part.tokens, hidden_states.device, first, stop)
    for index in range(first, stop):
        layer, depth, kind = layers.blocks[index], cache.depth_at(index), layers.kinds[index]
        if not attends(layer):
            hidden_states = _through_linear(layer, index, hidden_states, part, part.rope[kind], cache)
            continue
        if (depth, kind) not in masks:
            at = cache.places[depth]
            media = part.kinds == VISUAL if part.has_media else None
            masks[depth, kind] = layers.mask(index, at, part.tokens, hidden_states, media)
        with layer.self_attn.tap.recording(scoring.scorer(index, index + 1 == stop, start)):
            hidden_states = layer(
                hidden_states,
                attention_mask=masks[depth, kind],
                position_embeddings=part.rope[kind],
                use_cache=True,
                **{CACHE: cache},
                **layers.arguments(index, part.along, shared),
            )
        if index in part.injections:
            hidden_states = hidden_states + part.injections[index].to(hidden_states.device)
    cache.extend(part.lengths, first, stop)
    return hidden_states


def _through_tail(layers: Layers, prompt: Prompt, cache: MergeCache, shared: Any) -> Tensor:
    """Each row's last token through the layers that look at others' keys alone, to (B, C)."""
    device = prompt.hidden_states.device
    ends = replace(
        prompt.take(to_device([n - 1 for n in prompt.lengths], device)[:, None]),
        lengths=[1] * len(prompt.lengths),
    )
    hidden_states, masks = ends.hidden_states, {}
    at = Places.of([held - 1 for held in cache.lengths(layers.tail)], 1, device)
    for index in range(layers.tail, len(layers.blocks)):
        kind = layers.kinds[index]
        if kind not in masks:
            masks[kind] = layers.mask(index, at, 1, hidden_states)
        hidden_states = layers.blocks[index](
            hidden_states,
            attention_mask=masks[kind],
            position_embeddings=ends.rope[kind],
            use_cache=True,
            **{CACHE: cache},
            **layers.arguments(index, ends.along, shared),
        )
    return hidden_states[:, 0]


def _through_linear(
    layer: nn.Module, index: int, hidden_states: Tensor, part: Prompt, rope: Rope, cache: MergeCache
) -> Tensor:
    """A part of a prompt through a layer of linear attention.

    What fills a shorter row up would enter its states, so that rows go through by their lengths.
    """
    groups: dict[int, list[int]] = {}
    for row, length in enumerate(part.lengths):
        groups.setdefault(length, []).append(row)
    if list(groups) == [part.tokens]:
        return _linear(layer, index, hidden_states, rope, cache, slice(len(part.lengths)), part.tokens)
    given = torch.zeros_like(hidden_states)
    longest = max(groups)
    for length, rows in groups.items():
        own_rope = tuple(x[..., rows, :length, :] for x in rope)
        counted = length if length == longest else 0  # as the layers of attention count the longest row
        own = hidden_states[rows, :length]
        given[rows, :length] = _linear(layer, index, own, own_rope, cache, rows, counted)
    return given


def _linear(
    layer: nn.Module,
    index: int,
    hidden_states: Tensor,
    rope: Rope,
    cache: MergeCache,
    rows: Chosen,
    tokens: int,
) -> Tensor:
    cache.among(index, rows, tokens)
    return layer(
        hidden_states, attention_mask=None, position_embeddings=rope, use_cache=True, **{CACHE: cache}
    )


def step(layers: Layers, embeds: Tensor, cache: MergeCache) -> Tensor:
    """One generated token of each row (B, 1, C) through all layers -> (B, C), normed.

    Raises:
        MergeError: a layer took no token.
    """
    cache.place(1, embeds.device)
    position_ids = to_device(cache.next_position, embeds.device)[:, None]
    hidden_states = run_step(layers, embeds, position_ids, cache)
    cache.verify([1] * len(cache.keys))
    cache.count_step()
    return hidden_states


def run_step(layers: Layers, embeds: Tensor, position_ids: Tensor, cache: MergeCache) -> Tensor:
    """What of a step runs on the device, with nothing of it known to the host: it may be recorded.

    Args:
        position_ids: (B, 1); generated text is at the same position on all axes of a rope.
        cache: its `places` are set.
    """
    if layers.rope_axes > 1:
        position_ids = position_ids.expand(layers.rope_axes, -1, -1)
    hidden_states, ropes, along = layers.opened(embeds, position_ids)
    masks, shared = {}, layers.shared()
    for index, layer in enumerate(layers.blocks):
        depth, kind = cache.depth_at(index), layers.kinds[index]
        if not attends(layer):
            rows = slice(cache.places[depth].rows)
            hidden_states = _linear(layer, index, hidden_states, ropes[kind], cache, rows, 1)
            continue
        if (depth, kind) not in masks:
            masks[depth, kind] = layers.mask(index, cache.places[depth], 1, hidden_states)
        hidden_states = layer(
            hidden_states,
            attention_mask=masks[depth, kind],
            position_embeddings=ropes[kind],
            use_cache=True,
            **{CACHE: cache},
            **layers.arguments(index, along, shared),
        )
    return layers.norm(hidden_states)[:, 0]


def drained(work: Generator[None, None, T]) -> T:
    """What a generator returns, all its pauses passed over."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
