"""The loop over the vision tower's blocks, with the merge points in it.

    h = h + attention(norm1(h))
    if layer in schedule: h = merge(h, scores)        # N -> N - r
    h = h + mlp(norm2(h))

A tower works on segments of equal length: the tiles of an image or the frames of a video. A token is
what merges as one: a patch, or a 2x2 group of patches (Qwen2-VL). Class tokens stand before the patches and
never merge.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from illava_cli.errors import MergeError
from illava_cli.models.attention import install_tap, with_bias
from illava_cli.models.binding import bind, stock_forward
from illava_cli.models.hf import versions
from illava_cli.models.schedule import TowerPlan
from illava_cli.models.windows import Windows
from illava_cli.reduction import METHODS, Candidates, Merge, decide, received_attention
from illava_cli.reduction.merge import accumulation_dtype


@dataclass(frozen=True)
class BlockParts:
    """Names of a block's parts."""

    norm1: str
    attention: str
    norm2: str
    mlp: str


@dataclass
class TowerState:
    """The tokens of a chunk of segments on their way through the tower.

    Args:
        segments: B, segments in this chunk.
        tokens: N, tokens per segment now.
        group: patches per token.
        plan: the schedule of the tower.
        class_tokens: further tokens before these N: they attend and are never merged (CLIP's one).
        padding: (B, N) True for image padding, which leaves first; None where there is none.
        rope: rotary cos and sin (B * N * group, D) of a tower that has them.
        windows: where the tokens stand, of a tower with attention within windows.
        layer: the block that runs.
        met: the last block that ran with its merge point.
        traced: keep each layer's `Merge`; without it nothing grows with the number of segments.
        watched: score every layer, and keep what it gives.
    """

    segments: int
    tokens: int
    device: torch.device
    plan: TowerPlan = field(default_factory=TowerPlan)
    group: int = 1
    class_tokens: int = 0
    padding: Tensor | None = None
    rope: tuple[Tensor, Tensor] | None = None
    windows: Windows | None = None
    layer: int = 0
    met: int | None = None
    traced: bool = False
    watched: bool = False
    merges: dict[int, Merge] = field(default_factory=dict)  # by layer, where `traced`
    attention: dict[int, Tensor] = field(default_factory=dict)  # (B, N) by layer, where `watched`
    scores: Tensor | None = None  # (B, N) of the survivors, from the last merge layer
    keys: Tensor | None = None  # (B, N, C) of the last layer that was scored, where a method compares
    place: Tensor = field(init=False)  # (B, N) index of each survivor in its segment
    sizes: Tensor = field(init=False)  # (B, N) tokens that each survivor stands for

    def __post_init__(self):
        self.place = torch.arange(self.tokens, device=self.device).expand(self.segments, self.tokens)
        self.sizes = torch.ones(self.segments, self.tokens, device=self.device)
        self.full = self.tokens

    def attention_bias(self, dtype: torch.dtype) -> Tensor | None:
        """(B, class + N * group) what proportional attention adds to logits: the logarithm of sizes."""
        if not self.plan.proportional or self.tokens == self.full:
            return None
        sizes = self.sizes.to(accumulation_dtype(dtype))
        bias = sizes.log().to(dtype).repeat_interleave(self.group, dim=1)
        return nn.functional.pad(bias, (self.class_tokens, 0))

    def score(
        self,
        query: Tensor,
        key: Tensor,
        scaling: float,
        lse: Tensor | None = None,
        windows: Windows | None = None,
    ) -> Tensor:
        """Attention received per token, (B, N): eq. 1, averaged over a token's patches.

        A class token is one of the queries. Within `windows` the score is a multiple of an even share, since
        windows differ in size.
        """
        if self.plan.scored is not None or METHODS[self.plan.method].compares:
            # ToMe's metric: keys, averaged over heads (arXiv 2210.09461, section 3)
            mean = key.mean(1)
            mean = mean if windows is None else windows.pack(mean)
            self.keys = mean.reshape(self.segments, -1, mean.shape[-1])[:, self.class_tokens :]
            self.keys = self.keys.reshape(self.segments, self.tokens, -1)
        bias = with_bias(None, self.attention_bias(query.dtype), windows)
        if bias is not None:  # one more dimension adds it to the logits
            query = torch.cat([query, torch.ones_like(query[..., :1])], dim=-1)
            key = torch.cat([key, (bias / scaling).transpose(2, 3).expand(-1, key.shape[1], -1, -1)], dim=-1)
        if self.class_tokens and self.layer == self.plan.scored and not self.plan.budget.get(self.layer):
            # behind the tower the class token judges, as PruMerge has it (arXiv 2403.15388, section 3.2)
            query, lse = query[:, :, :1], None if lse is None else lse[:, :, :1]
        options = {"scaling": scaling, "include_self": self.plan.include_self, "lse": lse}
        own = 0 if self.plan.include_self else 1
        if windows is None:
            received = received_attention(query, key, **options) / max(1, query.shape[2] - own)
        else:
            valid = windows.valid
            group = valid.int() - 1  # an empty cell's query counts for nothing
            received = received_attention(
                query, key, key_valid=valid, query_group=group, key_group=group, **options
            )
            patches = valid.sum(1, keepdim=True)
            received = windows.pack(received * patches / (patches - own).clamp(min=1))
        received = received.view(self.segments, -1)[:, self.class_tokens :]
        return received.reshape(self.segments, self.tokens, self.group).mean(-1)

    def reduce(self, hidden_states: Tensor, scores: Tensor, layer: int) -> Tensor:
        """Merge at `layer`; everything that is aligned with the tokens follows."""
        shape = hidden_states.shape
        r = self.plan.budget[layer]
        candidates = Candidates.of(
            scores, [(self.tokens, r)], keys=self.keys, sizes=self.sizes, before=self.class_tokens
        )
        assignment = decide(self.plan.method, candidates, self.padding)
        merge = Merge.from_assignment(assignment, self.tokens - r)
        hidden_states = hidden_states.reshape(self.segments, self.class_tokens + self.tokens, -1)
        before, tokens = hidden_states.tensor_split([self.class_tokens], dim=1)  # (B, N, group * C)
        self.tokens -= r
        if self.traced:
            self.merges[layer] = merge
        self.place = merge.keep(self.place)
        self.scores = merge.keep(scores)
        self.sizes = merge.total(self.sizes)
        self.keys = None if self.keys is None else merge.keep(self.keys)
        if self.padding is not None:
            self.padding = merge.keep(self.padding)
        if self.rope is not None:
            cos, sin = (merge.keep(x.view(self.segments, -1, self.group, x.shape[-1])) for x in self.rope)
            self.rope = cos.flatten(0, 2), sin.flatten(0, 2)
        if self.windows is not None:
            self.windows = self.windows.keep(merge)
        tokens = merge.apply(tokens)
        if self.class_tokens:
            tokens = torch.cat([before, tokens], dim=1)
        return tokens.reshape(*shape[:-2], -1, shape[-1])


def prepare_blocks(blocks: Iterable[nn.Module], parts: BlockParts, implementation: str) -> None:
    """Give each block a merge point between its attention and its MLP, used where one is asked for."""
    for block in blocks:
        install_tap(getattr(block, parts.attention), implementation)
        block.unmerged = stock_forward(block)

        def forward(self, hidden_states, *args, merge_point=None, **kwargs):
            if merge_point is None:
                return self.unmerged(hidden_states, *args, **kwargs)
            state, layer = merge_point
            state.met = layer
            attention = getattr(self, parts.attention)
            merges = bool(state.plan.budget.get(layer))
            scorer = None
            if merges or layer == state.plan.scored or state.watched:
                scorer = partial(state.score, windows=kwargs.get("windows"))
            with attention.tap.recording(scorer, state.attention_bias(hidden_states.dtype)) as tap:
                if scorer is None:
                    return self.unmerged(hidden_states, *args, **kwargs)
                attended = attention(getattr(self, parts.norm1)(hidden_states), *args, **kwargs)
            hidden_states = hidden_states + (attended[0] if isinstance(attended, tuple) else attended)
            if state.watched:
                state.attention[layer] = tap.scores
            if merges:
                hidden_states = state.reduce(hidden_states, tap.scores, layer)
            elif layer == state.plan.scored:
                state.scores = tap.scores
            return hidden_states + getattr(self, parts.mlp)(getattr(self, parts.norm2)(hidden_states))

        bind(block, forward)


def compile_blocks(blocks: Iterable[nn.Module]) -> None:
    """Compile the blocks where they do not merge; one graph serves all blocks and token counts."""
    for block in blocks:
        block.unmerged = torch.compile(block.unmerged, dynamic=True)


def run_blocks(blocks: Iterable[nn.Module], hidden_states: Tensor, state: TowerState, arguments) -> Tensor:
    """The tower's loop. `arguments(state)` gives a block's further arguments for the tokens there are."""
    for layer, block in enumerate(blocks):
        state.layer = layer
        hidden_states = block(hidden_states, merge_point=(state, layer), **arguments(state))
        if state.met != layer:
            raise MergeError(
                "what was scheduled in the vision tower did not happen: "
                f"the model ran its layer {layer} without it ({versions()})"
            )
    return hidden_states
