"""What leaves the tower, and the reduction of it before the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from illava_cli.errors import MergeError
from illava_cli.models.hf import versions
from illava_cli.models.schedule import input_kept
from illava_cli.models.tokens import Tokens, aligned, per_row
from illava_cli.models.tower_pass import TowerPass
from illava_cli.models.way import Way, of_frames
from illava_cli.reduction import METHODS, Candidates, Merge, decide
from illava_cli.trace import INPUT, POOL, Step


@dataclass(frozen=True)
class Survivors(Tokens):
    """What leaves tower and projector: M tokens of each of B segments, or all of a medium in one row."""

    features: Tensor = aligned("apply")  # (B, M, C) of the decoder's width
    place: Tensor = aligned("keep")  # (B, M) place in the segment, or in the medium
    segment: Tensor = per_row()  # (B,) in the medium; also where they stand in one row
    padding: Tensor | None = aligned("keep", default=None)  # (B, M)
    scores: Tensor | None = aligned("keep", default=None)  # (B, M) received at the last layer that was scored
    keys: Tensor | None = aligned("keep", default=None)  # (B, M, D) of that layer, for a reduction to come
    sizes: Tensor | None = aligned("total", default=None)  # (B, M) tokens that each stands for
    taps: dict[int, Tensor] = aligned("apply", default_factory=dict)  # by decoder layer: (B, M, C)
    left: int = 0  # tokens of a segment that left the tower: M, or more where a family has pooled them
    merges: dict[Step, Merge] = per_row(default_factory=dict)
    attention: dict[int, Tensor] = per_row(default_factory=dict)  # (B, N) by layer, where it is watched
    pooled: Merge | None = per_row(default=None)  # of each segment, where a family has pooled it and `traced`
    frame_merges: dict[Step, Merge] = field(default_factory=dict)  # of whole segments, (1, B) to (1, B')
    counts: tuple[int, ...] = ()  # of each segment that is left, where they stand in one row
    way: Way = field(default_factory=Way)  # the same
    traced: bool = False

    @staticmethod
    def of(features: Tensor, run: TowerPass) -> Survivors:
        """At the end of a pass through the tower; raises as `verify` does."""
        tokens, last = run.tokens, run.plan.scored is not None
        survivors = Survivors(
            features,
            tokens.place,
            tokens.segment,
            padding=tokens.padding,
            scores=tokens.scores,
            keys=tokens.keys if last else None,
            sizes=tokens.sizes if last else None,
            taps=tokens.taps,
            left=tokens.count,
            merges=run.merges,
            frame_merges=run.frame_merges,
            attention=run.attention,
            traced=run.traced,
        )
        survivors.verify(run.full - sum(run.plan.budget.values()), "merging in the vision tower")
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
    merges = survivors.merges | ({(layer, INPUT): merge} if survivors.traced else {})
    # nobody compares or weighs them any more
    return replace(survivors, keys=None, sizes=None, left=kept, merges=merges).after(merge)


def in_one_row(pieces: Sequence[tuple[Sequence[int], Survivors]], cells: int, depth: int) -> Survivors:
    """The survivors of all segments by their places in the medium.

    Args:
        pieces: segments of as many tokens each, and which of the medium they were when they entered the
            tower, in ascending order.
        cells: places of a segment.
        depth: of the tower.
    """
    first = pieces[0][1]
    rows = [
        replace(piece, place=piece.place + piece.segment[:, None] * cells, **NO_LAYERS).flat()
        for _, piece in pieces
    ]
    row, segment = rows[0], first.segment
    counts = (first.left,) * len(segment)
    if len(rows) > 1:
        row = Survivors.beside(rows)
        row = row.take(row.place.argsort(stable=True))
        segment = torch.cat([piece.segment for _, piece in pieces]).sort().values
        by_segment = {n: piece.left for segments, piece in pieces for n in segments}
        counts = tuple(by_segment[n] for n in sorted(by_segment))
    way = _way_of(pieces, depth) if first.traced else Way()
    return replace(row, segment=segment, counts=counts, way=way)


# what belongs to rows is told by the way of all tokens
NO_LAYERS = {"merges": {}, "frame_merges": {}, "attention": {}, "pooled": None}


def _way_of(pieces: Sequence[tuple[Sequence[int], Survivors]], depth: int) -> Way:
    """The way of all segments in their order; arguments as for `in_one_row`."""
    if len(pieces) == 1:
        return _way_of_piece(pieces[0][1], depth)
    rows = [
        (number, _way_of_piece(piece.rows(slice(row, row + 1)), depth))
        for segments, piece in pieces
        for row, number in enumerate(segments)
    ]
    return Way.beside([way for _, way in sorted(rows, key=lambda one: one[0])])


def _way_of_piece(piece: Survivors, depth: int) -> Way:
    """Of segments with as many tokens each."""
    merges = piece.merges | ({(depth, POOL): piece.pooled} if piece.pooled is not None else {})
    tokens = next(iter(merges.values())).slot.shape[1] if merges else piece.features.shape[1]
    found = {step: of_frames(merge, tokens) for step, merge in piece.frame_merges.items()}
    found |= {step: Merge.beside([merge]) for step, merge in merges.items()}
    entered = next(iter(found.values())).slot.shape[1] if found else piece.features.shape[:2].numel()
    attention = {layer: received.flatten() for layer, received in piece.attention.items()}
    return Way(entered, dict(sorted(found.items())), attention)
