"""What the decoder is given of new tokens, and how many of them each of its layers will hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from illava_cli.models.schedule import MergePoint
from illava_cli.trace import DecoderTrace


@dataclass(frozen=True)
class Prefill:
    """New tokens of B rows, (B, T), filled up on the right.

    Args:
        embeds: (B, T, C).
        position_ids: (B, T), or (3, B, T) for M-RoPE.
        lengths: tokens of each row.
        next_position: the position of each row's first generated token.
        reach: the positions that each row would have taken, and takes; fewer where they closed up.
        kinds: (B, T) `TEXT` (also where there is no token), `VISUAL` or `NEWLINE`.
        groups: (B, T) ranking group of each token that may merge, counted per row from 0; else -1.
        counts: tokens in each group, per row.
        span: first and one-past-last index, over all rows, of the tokens that may merge.
        merge_points: by decoder layer.
        injections: (B, T, C) by decoder layer, what is added to what it gives: 0 where nothing is.
        trace: filled where it is wanted.
    """

    embeds: Tensor
    position_ids: Tensor
    lengths: list[int]
    next_position: list[int]
    kinds: Tensor
    groups: Tensor
    counts: list[list[int]]
    reach: Sequence[tuple[int, int]] = ()
    span: tuple[int, int] = (0, 0)
    merge_points: dict[int, MergePoint] = field(default_factory=dict)
    injections: dict[int, Tensor] = field(default_factory=dict)
    trace: DecoderTrace | None = None

    def planned(self, layers: int) -> list[int]:
        """Tokens of the longest row in each of so many layers: what the schedule says, without a pass."""
        counts, rows, planned = self.counts, self.lengths, []
        for layer in range(layers):
            point = self.merge_points.get(layer)
            if point is not None:
                left = [[point.kept(n) for n in row] for row in counts]
                rows = [n - sum(old) + sum(new) for n, old, new in zip(rows, counts, left, strict=True)]
                counts = left
            planned.append(max(rows))
        return planned
