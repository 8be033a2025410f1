"""What goes through the vision tower: the tokens of some segments, and what is done to them on the way.

`models/tower.py` is the loop over the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from illava_cli.models.schedule import TowerPlan
from illava_cli.models.tokens import Tokens, aligned, per_row
from illava_cli.models.windows import Windows
from illava_cli.reduction import METHODS, Candidates, Merge, decide, received_attention
from illava_cli.reduction.clips import FrameTokens
from illava_cli.reduction.merge import accumulation_dtype
from illava_cli.trace import FRAMES, TOWER, Step


@dataclass(frozen=True)
class TowerTokens(Tokens):
    """N tokens of each of B segments on their way through the tower.

    Args:
        place: (B, N) index of each in its segment.
        segment: (B,) index of each segment in its medium.
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
    segment: Tensor = per_row()
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
    def all(
        segments: int,
        tokens: int,
        device: torch.device,
        padding: Tensor | None = None,
        segment: Tensor | None = None,
    ) -> TowerTokens:
        """The tokens of so many segments before the first block; by default the first of a medium."""
        place = torch.arange(tokens, device=device).expand(segments, tokens)
        segment = torch.arange(segments, device=device) if segment is None else segment
        return TowerTokens(place, segment, torch.ones(segments, tokens, device=device), padding)

    @property
    def count(self) -> int:
        """N."""
        return self.place.shape[1]

    def holding(self, h: Tensor, class_tokens: int) -> TowerTokens:
        """With a block's hidden states, (B, class + N, C) or all patches one after another (B * N, C)."""
        before, states = by_segment(h, len(self.place)).tensor_split([class_tokens], dim=1)
        return replace(self, hidden_states=states.reshape(len(before), self.count, -1), before=before)

    def apart(self, like: Tensor) -> tuple[TowerTokens, Tensor]:
        """The tokens without their hidden states, and these as a block takes them."""
        states = self.hidden_states.reshape(len(self.place), -1, like.shape[-1])
        if self.before.shape[1]:
            states = torch.cat([self.before, states], dim=1)
        return replace(self, hidden_states=None, before=None), as_taken(states, like)


def by_segment(h: Tensor, segments: int) -> Tensor:
    """A block's hidden states (B, n, C), whether it takes all patches one after another or not."""
    return h.reshape(segments, -1, h.shape[-1])


def as_taken(states: Tensor, like: Tensor) -> Tensor:
    """(B, n, C) as a block takes them that takes `like`."""
    return states.flatten(0, 1) if like.dim() == 2 else states


@dataclass
class TowerPass:
    """Segments on their way through the tower.

    Args:
        tokens: what is left of them.
        plan: the schedule of the tower.
        group: patches per token.
        class_tokens: further tokens before the others: they attend and are never merged (CLIP's one).
        entering: (B, n) which tokens the blocks see, by place; None: all.
        at_a_time: segments that go through a block at once; None: all.
        traced: keep each layer's `Merge`; without it nothing grows with the number of segments.
        watched: score every layer, and keep what it gives.
    """

    tokens: TowerTokens
    plan: TowerPlan = field(default_factory=TowerPlan)
    group: int = 1
    class_tokens: int = 0
    entering: Tensor | None = None
    at_a_time: int | None = None
    traced: bool = False
    watched: bool = False
    merges: dict[Step, Merge] = field(default_factory=dict)  # of each segment, where `traced`
    frame_merges: dict[Step, Merge] = field(default_factory=dict)  # (1, B) to (1, B'), where `traced`
    attention: dict[int, Tensor] = field(default_factory=dict)  # (B, N) by layer, where `watched`

    def __post_init__(self):
        self.full = self.tokens.count if self.entering is None else self.entering.shape[1]

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
            self.merges[layer, TOWER] = merge
        return merge

    # --- segments ---------------------------------------------------------------------------------

    def entered(self, h: Tensor) -> Tensor:
        """Hidden states before the first block, of the tokens that enter."""
        if self.entering is None:
            return h
        tokens = self.tokens.holding(h, self.class_tokens).take(self.entering)
        self.tokens, h = tokens.apart(like=h)
        return h

    def parted(self, h: Tensor) -> list[tuple[TowerPass, Tensor]]:
        """What goes through a block at once."""
        step = self.at_a_time or self.segments
        if step >= self.segments:
            return [(self, h)]
        states, held = by_segment(h, self.segments), []
        for start in range(0, self.segments, step):
            cut = slice(start, start + step)
            part = replace(self, tokens=self.tokens.rows(cut), at_a_time=None, merges={}, attention={})
            held.append((part, as_taken(states[cut], h)))
        return held

    def joined(self, held: list[tuple[TowerPass, Tensor]]) -> Tensor:
        """All hidden states; what the parts have kept is this pass's again."""
        parts = [part for part, _ in held]
        if parts[0] is not self:
            self.tokens = TowerTokens.cat([part.tokens for part in parts])
            for name, cat in (("merges", Merge.cat), ("attention", torch.cat)):
                own = {key: cat([getattr(p, name)[key] for p in parts]) for key in getattr(parts[0], name)}
                getattr(self, name).update(own)
        return torch.cat([h for _, h in held]) if len(held) > 1 else held[0][1]

    def fewer_frames(self, layer: int, h: Tensor) -> Tensor:
        """What is left of the segments' hidden states, and of their tokens, before a layer."""
        states = by_segment(h, self.segments)
        tokens = states[:, self.class_tokens :].reshape(self.segments, self.tokens.count, -1)
        left = self.plan.frames[layer]
        assignment = METHODS[self.plan.frame_method].frames(FrameTokens(tokens, left))
        merge = Merge.from_assignment(assignment, left)
        if self.traced:
            self.frame_merges[layer, FRAMES] = merge
        self.tokens = self.tokens.across(merge)
        return as_taken(merge.apply(states[None])[0], h)
