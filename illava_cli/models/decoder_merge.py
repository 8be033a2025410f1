"""A prompt on its way through the decoder, and the merge of its visual tokens before a layer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from illava_cli.models.attention import Scorer
from illava_cli.models.host import to_device
from illava_cli.models.layers import Layers, Rope
from illava_cli.models.prefill import Prefill
from illava_cli.models.schedule import MergePoint
from illava_cli.models.tokens import Tokens, aligned
from illava_cli.reduction import (
    METHODS,
    Assignment,
    Candidates,
    Merge,
    decide,
    gather_tokens,
    received_attention,
)
from illava_cli.trace import TEXT, DecoderTrace


@dataclass(frozen=True)
class Prompt(Tokens):
    """New tokens of B rows between two layers, filled up on the right.

    Args:
        hidden_states: (B, T, C).
        rope: cos and sin (B, T, D) by kind of layer.
        along: (B, T, ...) what layers are given of each token beside that.
        kinds, groups: as in `Prefill`.
        sizes: (B, T) how many tokens each stands for.
        keys: (B, T, D) attention keys of the layer before a merge, where its method compares.
        injections: (B, T, C) by layer.
        lengths, counts, span: as in `Prefill`.
    """

    hidden_states: Tensor = aligned("apply")
    rope: dict[str, Rope] = aligned("keep")
    kinds: Tensor = aligned("keep")
    groups: Tensor = aligned("keep")
    sizes: Tensor = aligned("total")
    keys: Tensor | None = aligned("keep", default=None)
    injections: dict[int, Tensor] = aligned("apply", default_factory=dict)
    along: Tensor | None = aligned("keep", default=None)
    lengths: list[int] = field(default_factory=list)
    counts: list[list[int]] = field(default_factory=list)
    span: tuple[int, int] = (0, 0)

    @staticmethod
    def of(new: Prefill, hidden_states: Tensor, rope: dict[str, Rope], along: Tensor | None = None) -> Prompt:
        """At the decoder's door, as `Layers.opened` gives it."""
        return Prompt(
            hidden_states,
            rope,
            new.kinds,
            new.groups,
            torch.ones_like(new.groups, dtype=torch.float32),
            injections=new.injections,
            along=along,
            lengths=list(new.lengths),
            counts=[list(row) for row in new.counts],
            span=new.span,
        )

    @property
    def tokens(self) -> int:
        """T, of the longest row."""
        return self.hidden_states.shape[1]

    @property
    def has_media(self) -> bool:
        """Whether any row holds a medium's tokens."""
        return self.span[1] > 0

    @property
    def rankable(self) -> bool:
        """Whether any token may merge."""
        return any(map(any, self.counts))

    def valid(self, device: torch.device) -> Tensor | None:
        """(B, T) where there is a token; None: everywhere."""
        if min(self.lengths) == self.tokens:
            return None
        return torch.arange(self.tokens, device=device) < to_device(self.lengths, device)[:, None]

    def part(self, start: int, stop: int) -> Prompt:
        """The tokens from `start` to `stop`."""
        stop = min(stop, self.tokens)
        if (start, stop) == (0, self.tokens):
            return self
        lengths = [min(max(n - start, 0), stop - start) for n in self.lengths]
        return replace(self.between(start, stop), lengths=lengths)

    def with_hidden(self, hidden_states: Tensor) -> Prompt:
        """Behind some layers."""
        return replace(self, hidden_states=hidden_states)

    def with_keys(self, keys: Tensor | None) -> Prompt:
        """With the keys of the last of them."""
        return replace(self, keys=keys)

    def last(self) -> Tensor:
        """(B, C) hidden states of each row's last token."""
        return last_of(self.hidden_states, self.lengths)

    def merged(
        self, layer: int, point: MergePoint, scores: Tensor, trace: DecoderTrace | None = None
    ) -> Prompt:
        """What is left before `layer`: each group has merged by its own ranking.

        Args:
            scores: (B, T) what each token received.
        """
        device = self.hidden_states.device
        here = self.to(device)  # under a device map the layers before may lie elsewhere
        scores = scores.to(device)
        removed = [[n - point.kept(n) for n in row] for row in self.counts]
        lengths = [n - sum(row) for n, row in zip(self.lengths, removed, strict=True)]
        assignment = here._assign(point, scores, removed)
        merge = Merge.from_assignment(assignment, max(lengths), valid=self.valid(device))
        left = replace(
            here.after(merge),
            lengths=lengths,
            counts=[[n - r for n, r in zip(*p, strict=True)] for p in zip(self.counts, removed, strict=True)],
            span=(0, max(lengths)),
        )
        valid = left.valid(device)
        if valid is not None:  # where there is no token a row has its first one's
            left = replace(left, kinds=left.kinds.where(valid, TEXT), groups=left.groups.where(valid, -1))
        if trace is not None:
            trace.merges.append((layer, merge))
            trace.scores[layer] = scores
        return left

    def _assign(self, point: MergePoint, scores: Tensor, removed: list[list[int]]) -> Assignment:
        """Each group's decision, written back to the whole sequence (B, T)."""
        device = scores.device
        rows, starts, counts, budgets = [], [], [], []
        for row, (sizes, budget) in enumerate(zip(self.counts, removed, strict=True)):
            start = 0
            for size, r in zip(sizes, budget, strict=True):
                if size:
                    rows.append(row), starts.append(start), counts.append(size), budgets.append(r)
                start += size
        widest = max(counts)
        row, start, count, budget = to_device([rows, starts, counts, budgets], device).unsqueeze(-1)

        last = self.groups.masked_fill(self.groups < 0, torch.iinfo(self.groups.dtype).max)
        by_group = last.argsort(dim=1, stable=True)  # (B, T): a group's tokens stand together, in order
        rank = torch.arange(widest, device=device)
        valid = rank < count  # (S, widest), S groups in all
        token = by_group[row, (start + rank).clamp(max=self.tokens - 1)]
        candidates = Candidates.of(
            scores[row, token].nan_to_num(nan=torch.finfo(scores.dtype).max),
            list(zip(counts, budgets, strict=True)),
            counts=budget.squeeze(1),
            valid=valid,
            keys=None if self.keys is None else self.keys[row, token],
            sizes=self.sizes[row, token],
        )
        decision = decide(point.method, candidates)
        joined = gather_tokens(token, decision.target.clamp(min=0)).where(decision.target >= 0, -1)

        # one spare column takes what the shorter groups do not have
        where = token.where(valid, self.tokens)
        index = torch.arange(self.tokens + 1, device=device).repeat(len(self.lengths), 1)
        weight = torch.ones(index.shape, device=device, dtype=decision.weight.dtype)
        index[row, where] = joined
        weight[row, where] = decision.weight
        return Assignment(index[:, :-1], weight[:, :-1])


def last_of(x: Tensor, lengths: list[int]) -> Tensor:
    """(B, ...) of `x` (B, T, ...) at each row's last token."""
    if min(lengths) == x.shape[1]:
        return x[:, -1]
    return gather_tokens(x, to_device([n - 1 for n in lengths], x.device)[:, None])[:, 0]


class Scoring:
    """Attention received by a prompt's tokens in the last of some layers, gathered over its parts.

    Args:
        past: tokens of each row that are cached before the prompt's.
        point: the merge after these layers, if there is one.
        trace: also keep what each token receives of the last one in every layer, where it is watched.
    """

    def __init__(
        self, prompt: Prompt, past: int, point: MergePoint | None, trace: DecoderTrace | None, layers: Layers
    ):
        self.prompt, self.past, self.trace, self.layers = prompt, past, trace, layers
        self.point = point if prompt.rankable else None
        self.scores: Tensor | None = None  # (B, T)
        self.keys: Tensor | None = None  # (B, T, D), where the method compares

    def scorer(self, layer: int, is_last: bool, start: int) -> Scorer | None:
        """What looks at a layer's queries and keys, of the tokens from `start` on."""
        watched = self.trace is not None and self.trace.watched
        ranks = self.point is not None and is_last
        if not watched and not ranks:
            return None

        def score(query: Tensor, key: Tensor, scaling: float, lse: Tensor | None) -> None:
            if watched:
                window = self.layers.windows.get(self.layers.kinds[layer])
                self.trace.attention[layer] = self._of_last(query, key, scaling, lse, window)
            if ranks:
                self._rank(query, key, scaling, lse, start)

        return score

    def _rank(self, query: Tensor, key: Tensor, scaling: float, lse: Tensor | None, start: int) -> None:
        """Attention received by each new token (B, T) as `point.queries` defines it (eq. 2).

        Where the method compares tokens it takes the keys as they are here, rotated: two that are alike are
        alike to every query. ToMe's and PruMerge's towers do not rotate, so that the papers leave it open.
        Rotated back, the embedded model answered as well: on 176 questions of its world, merged before layer
        1 to a quarter and to a tenth, no method's accuracy changed by more than 2 points, and of the changes
        in KL divergence only one in eight was beyond its 95 % interval (`bipartite` at a tenth, -0.07 of
        0.24 nats).
        """
        is_end = start + query.shape[2] == self.prompt.tokens
        if is_end and METHODS[self.point.method].compares:
            self.keys = key[:, :, self.past :].mean(1)
        if self.point.queries == "last":
            if is_end:
                self.scores = self._of_last(query, key, scaling, lse)
            return
        received = self._of_visual(query, key, scaling, lse, start)
        received = nn.functional.pad(received, (0, self.prompt.tokens - received.shape[1]))
        self.scores = received if self.scores is None else self.scores + received
        if is_end:
            self.scores = self.scores / self._seen_by().to(self.scores.dtype)

    def _of_last(
        self, query: Tensor, key: Tensor, scaling: float, lse: Tensor | None, window: int | None = None
    ) -> Tensor:
        """(B, T) what each new token receives of the last one's attention, its own included.

        Args:
            window: tokens that it sees, of a layer that does not see all.
        """
        prompt = self.prompt
        lengths = [n - (prompt.tokens - query.shape[2]) for n in prompt.lengths]  # in the last part
        last = last_of(query.transpose(1, 2), lengths).unsqueeze(2)  # (B, H, 1, D)
        valid = prompt.valid(query.device)
        seen = None if valid is None else nn.functional.pad(valid, (self.past, 0), value=True)
        if window is not None:
            ends = to_device([self.past + n for n in prompt.lengths], query.device)[:, None]
            near = torch.arange(key.shape[2], device=query.device) >= ends - window
            seen = near if seen is None else seen & near
        received = received_attention(
            last,
            key,
            scaling=scaling,
            key_valid=seen,
            include_self=True,
            lse=None if lse is None else last_of(lse.transpose(1, 2), lengths).unsqueeze(2),
        )
        return received[:, self.past :]

    def _of_visual(
        self, query: Tensor, key: Tensor, scaling: float, lse: Tensor | None, start: int
    ) -> Tensor:
        """(B, T') the sum of what each new token so far receives of the others of its group."""
        groups = self.prompt.groups.to(query.device)
        first, stop = (min(max(end - start, 0), query.shape[2]) for end in self.prompt.span)
        return received_attention(
            query[:, :, first:stop],
            key,
            scaling=scaling,
            causal_offset=self.past + start,
            query_start=first,
            query_group=groups[:, start + first : start + stop],
            key_group=nn.functional.pad(groups, (self.past, 0), value=-1)[:, : key.shape[2]],
            lse=None if lse is None else lse[:, :, first:stop],
        )[:, self.past :]

    def _seen_by(self) -> Tensor:
        """(B, T) what the sum of received attention is divided by.

        `visual-literal` divides by N-1, `visual` by the number of visual queries after the token;
        that is 0 for the last one, whose score becomes NaN and sorts last: none can judge it.
        """
        counts, groups = self.prompt.counts, self.prompt.groups
        width = max(1, max(map(len, counts)))
        sizes = to_device([row + [0] * (width - len(row)) for row in counts], groups.device)
        count = sizes.gather(1, groups.clamp(min=0))
        if self.point.queries == "visual-literal":
            return (count - 1).clamp(min=1).to(self.scores.device)
        member = nn.functional.one_hot(groups.clamp(min=0), width) * (groups >= 0).unsqueeze(-1)
        rank = member.cumsum(1).gather(2, groups.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return (count - rank).to(self.scores.device)
