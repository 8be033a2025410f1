"""The loop over the vision tower's blocks, with the merge points in it.

    h = h + attention(norm1(h))
    if layer in schedule: tokens = tokens.after(merge)        # N -> N - r
    h = h + mlp(norm2(h))

A tower works on segments of equal length: the tiles of an image or the frames of a video. A token is
what merges as one: a patch, or a group of patches that are joined later. Class tokens stand before the
patches and never merge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from illava_cli.errors import MergeError
from illava_cli.models.binding import at_hand, replace_forward, stock_forward
from illava_cli.models.hf import versions
from illava_cli.models.schedule import TowerPlan
from illava_cli.models.tokens import Tokens, aligned
from illava_cli.models.windows import Windows
from illava_cli.reduction import METHODS, Candidates, Merge, decide, received_attention
from illava_cli.reduction.merge import accumulation_dtype


@dataclass(frozen=True)
class BlockParts:
    """Names of a block's parts.

    Args:
        after: what that which attention and MLP give goes through, where there is anything: norms, or
            parameters that it is multiplied by.
    """

    norm1: str
    attention: str
    norm2: str
    mlp: str
    after: tuple[str, str] | None = None

    def of(self, block: nn.Module) -> list[nn.Module]:
        """The parts, in order."""
        return [getattr(block, name) for name in (self.norm1, self.attention, self.norm2, self.mlp)]

    def added(self, block: nn.Module, number: int, given: Tensor) -> Tensor:
        """What a block adds to its input of what its attention (0) or MLP (1) gives."""
        if self.after is None:
            return given
        after = getattr(block, self.after[number])
        if isinstance(after, nn.Module):
            return after(given)
        with at_hand(block):
            return getattr(block, self.after[number]).to(given.device) * given


@dataclass(frozen=True)
class TowerTokens(Tokens):
    """N tokens of each of B segments on their way through the tower.

    Args:
        place: (B, N) index of each in its segment.
        sizes: (B, N) tokens that each stands for.
        padding: (B, N) True for image padding, which leaves first; None where there is none.
        hidden_states, before: (B, N, group * C) and (B, class tokens, C), while they merge.
        rope: rotary cos and sin (B, N, group, D) of a tower that has them.
        windows: where the tokens stand, of a tower with attention within windows.
        scores: (B, N) attention received at the last layer that merged, or that gives scores.
        keys: (B, N, C) of the last layer that was scored, where a method compares.
        taps: features of these tokens by the decoder layer after which they are added: they ride along.
    """

    place: Tensor = aligned("keep")
    sizes: Tensor = aligned("total")
    padding: Tensor | None = aligned("keep", default=None)
    hidden_states: Tensor | None = aligned("apply", default=None)
    before: Tensor | None = None
    rope: tuple[Tensor, Tensor] | None = aligned("keep", default=None)
    windows: Windows | None = aligned("itself", default=None)
    scores: Tensor | None = aligned("keep", default=None)
    keys: Tensor | None = aligned("keep", default=None)
    taps: dict[int, Tensor] = aligned("apply", default_factory=dict)

    @staticmethod
    def all(segments: int, tokens: int, device: torch.device, padding: Tensor | None = None) -> TowerTokens:
        """The tokens of so many segments before the first block."""
        place = torch.arange(tokens, device=device).expand(segments, tokens)
        return TowerTokens(place, torch.ones(segments, tokens, device=device), padding)

    @property
    def count(self) -> int:
        """N."""
        return self.place.shape[1]

    def holding(self, h: Tensor, class_tokens: int) -> TowerTokens:
        """With a block's hidden states, (B, class + N, C) or all patches one after another (B * N, C)."""
        states = h.reshape(len(self.place), -1, h.shape[-1])
        before, states = states.tensor_split([class_tokens], dim=1)
        return replace(self, hidden_states=states.reshape(len(before), self.count, -1), before=before)

    def apart(self, like: Tensor) -> tuple[TowerTokens, Tensor]:
        """The tokens without their hidden states, and these as a block takes them."""
        states = self.hidden_states.reshape(len(self.place), -1, like.shape[-1])
        if self.before.shape[1]:
            states = torch.cat([self.before, states], dim=1)
        h = states.reshape(*like.shape[:-2], -1, like.shape[-1])
        return replace(self, hidden_states=None, before=None), h


@dataclass
class TowerPass:
    """A chunk of segments on its way through the tower.

    Args:
        tokens: what is left of them.
        plan: the schedule of the tower.
        group: patches per token.
        class_tokens: further tokens before the others: they attend and are never merged (CLIP's one).
        traced: keep each layer's `Merge`; without it nothing grows with the number of segments.
        watched: score every layer, and keep what it gives.
    """

    tokens: TowerTokens
    plan: TowerPlan = field(default_factory=TowerPlan)
    group: int = 1
    class_tokens: int = 0
    traced: bool = False
    watched: bool = False
    merges: dict[int, Merge] = field(default_factory=dict)  # by layer, where `traced`
    attention: dict[int, Tensor] = field(default_factory=dict)  # (B, N) by layer, where `watched`

    def __post_init__(self):
        self.full = self.tokens.count

    @property
    def segments(self) -> int:
        return len(self.tokens.place)

    @property
    def device(self) -> torch.device:
        return self.tokens.place.device

    def opens(self, layer: int) -> bool:
        """Whether a block's attention is scored; else it runs as it is."""
        return self.watched or layer == self.plan.scored or bool(self.plan.budget.get(layer))

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        """(B, class + N * group) what proportional attention adds to logits: the logarithm of sizes."""
        if not self.plan.proportional or self.tokens.count == self.full:
            return None
        sizes = self.tokens.sizes.to(accumulation_dtype(dtype))
        bias = sizes.log().to(dtype).repeat_interleave(self.group, dim=1)
        return nn.functional.pad(bias, (self.class_tokens, 0))

    def score(
        self,
        layer: int,
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
            keys = mean.reshape(self.segments, -1, mean.shape[-1])[:, self.class_tokens :]
            self.tokens = replace(self.tokens, keys=keys.reshape(self.segments, self.tokens.count, -1))
        if (bias := self.bias(query.dtype)) is not None:  # one more dimension adds it to the logits
            bias = bias[:, None, None] if windows is None else windows.spread(bias)
            query = torch.cat([query, torch.ones_like(query[..., :1])], dim=-1)
            key = torch.cat([key, (bias / scaling).transpose(2, 3).expand(-1, key.shape[1], -1, -1)], dim=-1)
        if self.class_tokens and layer == self.plan.scored and not self.plan.budget.get(layer):
            # after the tower the class token judges, as PruMerge has it (arXiv 2403.15388, section 3.2)
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
        return received.reshape(self.segments, self.tokens.count, self.group).mean(-1)

    def note(self, layer: int, scores: Tensor) -> None:
        """Keep what a layer's attention gave."""
        if self.watched:
            self.attention[layer] = scores
        if layer == self.plan.scored or self.plan.budget.get(layer):
            self.tokens = replace(self.tokens, scores=scores)

    def decide(self, layer: int) -> Merge:
        """Who merges at `layer`, by the scores that its attention has given."""
        tokens, r = self.tokens, self.plan.budget[layer]
        candidates = Candidates.of(
            tokens.scores, [(tokens.count, r)], keys=tokens.keys, sizes=tokens.sizes, before=self.class_tokens
        )
        merge = Merge.from_assignment(decide(self.plan.method, candidates, tokens.padding), tokens.count - r)
        if self.traced:
            self.merges[layer] = merge
        return merge


Arguments = Callable[[int, TowerTokens], dict]
Given = Callable[[int, Tensor, TowerPass], None]


def run_blocks(
    blocks: Iterable[nn.Module],
    parts: BlockParts,
    h: Tensor,
    run: TowerPass,
    arguments: Arguments,
    given: Given = lambda *_: None,
) -> Tensor:
    """The tower's loop.

    Args:
        h: hidden states, as the blocks take them.
        arguments: a block's further arguments, by its layer, for the tokens there are.
        given: is told what each layer gives.

    Raises:
        MergeError: a layer that is scheduled was not run, or its attention ran past us.
    """
    layer = -1
    for layer, block in enumerate(blocks):
        norm1, attention, norm2, mlp = parts.of(block)
        more, bias = arguments(layer, run.tokens), run.bias(h.dtype)
        if not run.opens(layer):
            with attention.tap.recording(None, bias):
                h = block(h, **more)
            given(layer, h, run)
            continue
        with attention.tap.recording(partial(run.score, layer, windows=more.get("windows")), bias) as tap:
            attended = attention(norm1(h), **more)
        attended = attended[0] if isinstance(attended, tuple) else attended
        # accelerate may hold this block on another device, to which the block's own hook would have moved h
        h = h.to(attended.device) + parts.added(block, 0, attended)
        run.note(layer, tap.scores)
        if run.plan.budget.get(layer):
            tokens = run.tokens.holding(h, run.class_tokens).after(run.decide(layer))
            run.tokens, h = tokens.apart(like=h)
        h = h + parts.added(block, 1, mlp(norm2(h)))
        given(layer, h, run)
    if layer < run.plan.deepest:
        raise MergeError(
            "what was scheduled in the vision tower did not happen: the model ran its layers 0 to "
            f"{layer}, and {run.plan.deepest} is scheduled ({versions()})"
        )
    return h


def compile_blocks(blocks: Iterable[nn.Module]) -> None:
    """Compile the blocks for where they do not merge; one graph serves all blocks and token counts."""
    for block in blocks:
        replace_forward(block, torch.compile(stock_forward(block), dynamic=True))
