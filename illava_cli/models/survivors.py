"""What leaves the tower, and the reduction of it before the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from illava_cli.errors import MergeError
from illava_cli.models.hf import versions
from illava_cli.models.schedule import input_kept
from illava_cli.models.vision import TowerState
from illava_cli.reduction import METHODS, Candidates, Merge, decide

ALIGNED = ("features", "place", "padding", "scores", "keys", "sizes")


@dataclass(frozen=True)
class Survivors:
    """What leaves the tower and the projector: M tokens of each of B segments."""

    features: Tensor  # (B, M, C) of the decoder's width
    place: Tensor  # (B, M) place in the segment
    left: int  # tokens of a segment that left the tower: M, or more where a family has pooled them
    padding: Tensor | None = None  # (B, M)
    scores: Tensor | None = None  # (B, M) attention received at the last layer that was scored
    keys: Tensor | None = None  # (B, M, D) of that layer, for a reduction behind the tower
    sizes: Tensor | None = None  # (B, M) tokens that each stands for
    merges: dict[int, Merge] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)  # (B, N) by layer, where it is watched
    pooled: Merge | None = None  # of each segment, where a family has pooled it and `traced`
    traced: bool = False

    @staticmethod
    def of(features: Tensor, state: TowerState) -> Survivors:
        """At the end of a pass through the tower; raises as `verify` does."""
        last = {"keys": state.keys, "sizes": state.sizes} if state.plan.scored is not None else {}
        survivors = Survivors(
            features,
            state.place,
            state.tokens,
            padding=state.padding,
            scores=state.scores,
            merges=state.merges,
            attention=state.attention,
            traced=state.traced,
            **last,
        )
        survivors.verify(state.full - sum(state.plan.budget.values()), "merging in the vision tower")
        return survivors

    def verify(self, planned: int, what: str) -> None:
        """Compare the tokens of each segment with what the schedule says; the host knows both.

        Raises:
            MergeError: there are more or fewer, as where `transformers` ran a tower past our loop.
        """
        held = self.features.shape[1]
        if not held == self.left == self.place.shape[1] == planned:
            raise MergeError(
                f"{what} did not happen as scheduled: {held} tokens of each tile or frame are left, "
                f"not {planned} ({versions()})"
            )

    def rows(self, start: int, stop: int | None) -> Survivors:
        """The segments from `start` to `stop`; None: to the end."""
        cut = slice(start, stop)
        whole = {name: getattr(self, name) for name in ALIGNED}
        return replace(
            self,
            merges={layer: merge.rows(cut) for layer, merge in self.merges.items()},
            attention={layer: scores[cut] for layer, scores in self.attention.items()},
            pooled=None if self.pooled is None else self.pooled.rows(cut),
            **{name: x if x is None else x[cut] for name, x in whole.items()},
        )

    @staticmethod
    def cat(parts: Sequence[Survivors]) -> Survivors:
        """Chunks of one pass, put together again."""
        first = parts[0]
        if len(parts) == 1:
            return first

        def joined(name: str) -> Tensor | None:
            values = [getattr(p, name) for p in parts]
            return None if values[0] is None else torch.cat(values)

        return replace(
            first,
            merges={layer: Merge.cat([p.merges[layer] for p in parts]) for layer in first.merges},
            attention={layer: torch.cat([p.attention[layer] for p in parts]) for layer in first.attention},
            pooled=None if first.pooled is None else Merge.cat([p.pooled for p in parts]),
            **{name: joined(name) for name in ALIGNED},
        )


def thinned(survivors: Survivors, method: str, keep: float | None, *, layer: int) -> Survivors:
    """Fewer of them, as many in each segment of a medium.

    Args:
        keep: the share kept; None: as many as the method finds worth keeping in the segment where these are
            most, which the host has to wait for.
        layer: under which the merge stands in the trace.
    """
    tokens = survivors.left
    if keep is None:
        valid = torch.ones_like(survivors.scores, dtype=torch.bool)
        valid = valid if survivors.padding is None else ~survivors.padding
        kept = max(1, min(int(METHODS[method].count(survivors.scores, valid).max()), tokens))
    else:
        kept = input_kept(tokens, keep)
    candidates = Candidates.of(
        survivors.scores, [(tokens, tokens - kept)], keys=survivors.keys, sizes=survivors.sizes
    )
    merge = Merge.from_assignment(decide(method, candidates, survivors.padding), kept)
    return replace(
        survivors,
        features=merge.apply(survivors.features),
        place=merge.keep(survivors.place),
        left=kept,
        padding=None if survivors.padding is None else merge.keep(survivors.padding),
        scores=merge.keep(survivors.scores),
        keys=None,
        sizes=None,
        merges=survivors.merges | ({layer: merge} if survivors.traced else {}),
    )
