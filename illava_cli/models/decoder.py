"""The loop over the decoder's layers, with the merge points in it.

Before layer K the visual tokens merge by the attention they received in layer K-1. From there on
hidden states, positions (each survivor keeps its own), masks and KV cache are shorter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from illava_cli.models.attention import Scorer, install_tap
from illava_cli.models.binding import bind, stock_forward
from illava_cli.models.cache import MergeCache, Prefill
from illava_cli.models.hf import CACHE, BaseModelOutputWithPast, cache_of, create_causal_mask
from illava_cli.models.host import to_device
from illava_cli.models.schedule import MergePoint
from illava_cli.reduction import (
    METHODS,
    Assignment,
    Candidates,
    Merge,
    decide,
    gather_tokens,
    received_attention,
)


def prepare_decoder(text_model: nn.Module, rope_axes: int) -> None:
    """Bind our loop to a text model; it runs for calls with a `MergeCache`, all others are stock.

    Args:
        text_model: `Qwen2Model`, `Qwen2VLTextModel`, ...
        rope_axes: 1, or 3 for M-RoPE.
    """
    for layer in text_model.layers:
        install_tap(layer.self_attn)
    stock = stock_forward(text_model)

    def forward(self, input_ids=None, *, inputs_embeds=None, **kwargs):
        cache = cache_of(kwargs)
        if not isinstance(cache, MergeCache):
            return stock(input_ids=input_ids, inputs_embeds=inputs_embeds, **kwargs)
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        hidden_states = decode(self, inputs_embeds, cache, rope_axes)
        return BaseModelOutputWithPast(last_hidden_state=hidden_states, **{CACHE: cache})

    bind(text_model, forward)


def compile_decoder(text_model: nn.Module) -> None:
    """Compile what does not see the cache, which differs from layer to layer and grows with every token."""
    for layer in text_model.layers:
        for part in (layer.input_layernorm, layer.post_attention_layernorm, layer.mlp):
            part.compile(dynamic=True)


def decode(text_model: nn.Module, hidden_states: Tensor, cache: MergeCache, rope_axes: int) -> Tensor:
    """New tokens (B, T, C) through all layers -> (B, 1, C), the last one, normed: no other has logits.

    A slice of all tokens would have strides for which PyTorch copies the whole output head before the
    product (0.5 s of a bfloat16 prefill of LLaVA-OneVision-0.5B on two CPU cores).
    """
    batch, tokens, _ = hidden_states.shape
    prefill = cache.take_prefill()
    if prefill is None:
        prefill = _decoding_step(cache, batch, tokens, rope_axes, hidden_states.device)
    state = _Sequence(prefill, hidden_states)
    if state.is_prompt:
        cache.next_position = to_device(prefill.next_position, hidden_states.device)[:, None]
    else:
        cache.next_position = cache.next_position + tokens
    for layer in prefill.merge_points:
        cache.open_depth(layer)
    rope = text_model.rotary_emb(hidden_states, prefill.position_ids)

    scores = mask = None
    for index, layer in enumerate(text_model.layers):
        point = prefill.merge_points.get(index)
        if point is not None and state.rankable:
            hidden_states, rope = state.merge(index, point, scores, hidden_states, rope)
        if index in cache.depths:
            depth = cache.depths[index]
            past = depth.length
            depth.extend(batch, hidden_states.shape[1], state.valid, hidden_states.device)
            # no position ids: their gaps would be taken for borders between packed sequences
            # (a mask that is there holds padding: asking whether it does would stop a GPU)
            mask = create_causal_mask(
                text_model.config,
                hidden_states,
                depth.valid,
                cache,
                position_ids=None,
                layer_idx=index,
                allow_is_causal_skip=depth.valid is None,
            )
        coming = prefill.merge_points.get(index + 1)
        scorer = state.scorer(coming, past, depth.valid) if coming is not None and state.rankable else None
        scorer = state.watching(index, scorer, past, depth.valid)
        with layer.self_attn.tap.recording(scorer) as tap:
            hidden_states = layer(
                hidden_states,
                attention_mask=mask,
                position_embeddings=rope,
                use_cache=True,
                **{CACHE: cache},
            )
        scores = tap.scores
    if state.is_prompt:
        cache.kinds = state.kinds
    return text_model.norm(hidden_states[:, -1:].contiguous())


def _decoding_step(cache: MergeCache, batch: int, tokens: int, rope_axes: int, device) -> Prefill:
    """A step of generated tokens: plain text that goes on at each row's next position."""
    position_ids = cache.next_position.to(device) + torch.arange(tokens, device=device)
    if rope_axes > 1:
        position_ids = position_ids.expand(rope_axes, -1, -1)
    nothing = torch.full((1, 1), -1, device=device)
    return Prefill(position_ids, [], [0] * batch, nothing, nothing, [[] for _ in range(batch)])


@dataclass
class _Sequence:
    """The new tokens between the layers: who they are, and how many are left."""

    prefill: Prefill
    embeds: Tensor

    def __post_init__(self):
        prefill = self.prefill
        self.batch, self.length = self.embeds.shape[:2]
        self.is_prompt = bool(prefill.next_position)
        self.padding = list(prefill.padding)
        self.kinds, self.groups = prefill.kinds, prefill.groups
        self.counts = [list(row) for row in prefill.counts]
        self.span = prefill.span
        self.sizes = torch.ones_like(self.groups, dtype=torch.float32)  # (B, T) tokens each stands for
        self.keys: Tensor | None = None  # (B, T, D) of the layer before a merge, where the method compares
        self.rankable = any(map(any, self.counts))
        self.valid = self._valid(self.embeds.device)

    def _valid(self, device) -> Tensor | None:
        if not any(self.padding):
            return None
        start = to_device(self.padding, device)[:, None]
        return torch.arange(self.length, device=device) >= start

    def watching(
        self, layer: int, scorer: Scorer | None, past: int, key_valid: Tensor | None
    ) -> Scorer | None:
        """`scorer`, and what each token receives of the last one's attention, where a trace wants that."""
        trace = self.prefill.trace
        if trace is None or not trace.watched:
            return scorer

        def score(query: Tensor, key: Tensor, scaling: float, lse: Tensor | None) -> Tensor | None:
            own = self._of_last(query, key, scaling, lse, past, key_valid, include_self=True)
            trace.attention[layer] = own
            return None if scorer is None else scorer(query, key, scaling, lse)

        return score

    def _of_last(
        self,
        query: Tensor,
        key: Tensor,
        scaling: float,
        lse: Tensor | None,
        past: int,
        key_valid: Tensor | None,
        **options,
    ) -> Tensor:
        """(B, T) what each new token receives of the last one's attention."""
        received = received_attention(
            query[:, :, -1:],
            key,
            scaling=scaling,
            causal_offset=past,
            query_start=self.length - 1,
            key_valid=None if key_valid is None else key_valid.to(query.device),
            lse=None if lse is None else lse[:, :, -1:],
            **options,
        )
        return received[:, past:]

    def scorer(self, point: MergePoint, past: int, key_valid: Tensor | None) -> Scorer:
        """Attention received by each new token (B, T) as `point.queries` defines it (eq. 2).

        Where the method compares tokens it takes the keys as they are here, rotated: two that are alike are
        alike to every query. ToMe's and PruMerge's towers do not rotate, so that the papers leave it open.
        Rotated back, the embedded model answered as well: on 176 questions of its world, merged before layer
        1 to a quarter and to a tenth, no method's accuracy changed by more than 2 points, and of the changes
        in KL divergence only one in eight was beyond its 95 % interval (`bipartite` at a tenth, -0.07 of
        0.24 nats).
        """

        def score(query: Tensor, key: Tensor, scaling: float, lse: Tensor | None) -> Tensor:
            self.keys = key[:, :, past:].mean(1) if METHODS[point.method].compares else None
            if point.queries == "last":
                return self._of_last(query, key, scaling, lse, past, key_valid)
            groups = self.groups.to(query.device)
            valid = None if key_valid is None else key_valid.to(query.device)
            start, stop = self.span
            key_groups = torch.cat([groups.new_full((self.batch, past), -1), groups], dim=1)
            received = received_attention(
                query[:, :, start:stop],
                key,
                scaling=scaling,
                causal_offset=past,
                query_start=start,
                key_valid=valid,
                query_group=groups[:, start:stop],
                key_group=key_groups,
                lse=None if lse is None else lse[:, :, start:stop],
            )[:, past:]
            return received / self._seen_by(point, groups).to(received.dtype)

        return score

    def _seen_by(self, point: MergePoint, groups: Tensor) -> Tensor:
        """(B, T) what the sum of received attention is divided by.

        `visual-literal` divides by N-1, `visual` by the number of visual queries behind the token;
        that is 0 for the last one, whose score becomes NaN and sorts last: none can judge it.
        """
        width = max(1, max(map(len, self.counts)))
        sizes = to_device([row + [0] * (width - len(row)) for row in self.counts], groups.device)
        count = sizes.gather(1, groups.clamp(min=0))
        if point.queries == "visual-literal":
            return (count - 1).clamp(min=1)
        member = nn.functional.one_hot(groups.clamp(min=0), width) * (groups >= 0).unsqueeze(-1)
        rank = member.cumsum(1).gather(2, groups.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return count - rank

    def merge(self, layer: int, point: MergePoint, scores: Tensor, hidden_states: Tensor, rope):
        """Merge before `layer`: each group by its own ranking."""
        removed = [[n - point.kept(n) for n in row] for row in self.counts]
        device = hidden_states.device
        assignment = self._assign(point, scores.to(device), removed, device)
        lengths = [
            self.length - padding - sum(row) for padding, row in zip(self.padding, removed, strict=True)
        ]
        old_valid = None if self.valid is None else self.valid.to(device)
        self.length = max(lengths)
        self.padding = [self.length - n for n in lengths]
        self.counts = [
            [n - r for n, r in zip(*pair, strict=True)] for pair in zip(self.counts, removed, strict=True)
        ]
        offset = to_device(self.padding, device)
        merge = Merge.from_assignment(assignment, self.length, valid=old_valid, offset=offset)
        self.valid = self._valid(device)
        self.kinds = merge.keep(self.kinds.to(device))
        self.groups = merge.keep(self.groups.to(device))
        self.sizes = merge.total(self.sizes.to(device))
        if self.valid is not None:
            self.kinds = self.kinds.where(self.valid, 0)
            self.groups = self.groups.where(self.valid, -1)
        self.span = (0, self.length)
        if self.prefill.trace is not None:
            self.prefill.trace.merges.append((layer, merge))
            self.prefill.trace.scores[layer] = scores
        return merge.apply(hidden_states), tuple(merge.keep(x.to(device)) for x in rope)

    def _assign(self, point: MergePoint, scores: Tensor, removed: list[list[int]], device) -> Assignment:
        """Each group's decision, written back to the whole sequence (B, T)."""
        rows, starts, counts, budgets = [], [], [], []
        for row, (sizes, budget) in enumerate(zip(self.counts, removed, strict=True)):
            start = 0
            for size, r in zip(sizes, budget, strict=True):
                if size:
                    rows.append(row), starts.append(start), counts.append(size), budgets.append(r)
                start += size
        widest = max(counts)
        row, start, count, budget = to_device([rows, starts, counts, budgets], device).unsqueeze(-1)

        groups = self.groups.to(device)
        behind = groups.masked_fill(groups < 0, torch.iinfo(groups.dtype).max)
        by_group = behind.argsort(dim=1, stable=True)  # (B, T): a group's tokens stand together, in order
        rank = torch.arange(widest, device=device)
        valid = rank < count  # (S, widest), S groups in all
        token = by_group[row, (start + rank).clamp(max=self.length - 1)]
        candidates = Candidates.of(
            scores[row, token].nan_to_num(nan=torch.finfo(scores.dtype).max),
            list(zip(counts, budgets, strict=True)),
            counts=budget.squeeze(1),
            valid=valid,
            keys=None if self.keys is None else self.keys.to(device)[row, token],
            sizes=self.sizes.to(device)[row, token],
        )
        decision = decide(point.method, candidates)
        joined = gather_tokens(token, decision.target.clamp(min=0)).where(decision.target >= 0, -1)

        # one spare column takes what the shorter groups do not have
        where = token.where(valid, self.length)
        index = torch.arange(self.length + 1, device=device).repeat(self.batch, 1)
        weight = torch.ones(index.shape, device=device, dtype=decision.weight.dtype)
        index[row, where] = joined
        weight[row, where] = decision.weight
        return Assignment(index[:, :-1], weight[:, :-1])
