"""The reduction of a whole video's tokens between tower and decoder."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from illava_cli.errors import UsageError
from illava_cli.models.forms import Expansion
from illava_cli.models.media import Geometry, Pixels
from illava_cli.models.schedule import Schedule, windows
from illava_cli.models.survivors import Survivors
from illava_cli.reduction import METHODS, ClipTokens, Merge
from illava_cli.trace import CLIP


@dataclass(frozen=True)
class ClipPlan:
    """How many of a clip's tokens are left.

    Args:
        windows: frames that are looked at together.
        tokens: behind tower and pooling.
        kept: how many of these stay; None: all.
        newlines: that come to them.
    """

    windows: list[int]
    tokens: int
    kept: int | None
    newlines: int

    @property
    def expansion(self) -> Expansion:
        """Decoder tokens."""
        return Expansion(self.tokens if self.kept is None else self.kept, self.newlines)


def clip_plan(geometry: Geometry, schedule: Schedule) -> ClipPlan | None:
    """What is left of a medium under a schedule, of an image too; None where a method finds its own number.

    Raises:
        UsageError: it finds its own number, and there is a budget for the whole video.
    """
    entering = [tokens for tokens in geometry.entering if tokens]
    together, left = windows(len(entering)), schedule.frames_left(len(entering))
    counts = entering if left == together else entering[:1] * sum(left)
    kept = [schedule.after_input(tokens, geometry.tokens) for tokens in counts]
    if None in kept:
        if geometry.budget is not None:
            raise UsageError(
                f"video_budget: {schedule.input.method} finds its own number of tokens: set input.keep"
            )
        return None
    visual, newlines = geometry.form.expansion(kept, schedule.layout, geometry.entered)
    most = None if geometry.budget is None else geometry.budget - newlines
    if most is not None and most < 1:
        raise UsageError(
            f"video_budget: {newlines} of {geometry.budget} tokens are newlines, none is left: allow more"
        )
    return ClipPlan(together, visual, schedule.clip_kept(visual, most), newlines)


def fewer_tokens(row: Survivors, pixels: Pixels, schedule: Schedule, left: int, depth: int) -> Survivors:
    """So many of a window's survivors, which stand in one row.

    Args:
        depth: of the tower.
    """
    present, device = row.place.shape[1], row.place.device
    cells = pixels.form.cells(row.counts[0], schedule.layout)
    if left == 0:
        merge = Merge.select(row.place.new_zeros(1, 0), present)
    else:
        frame = torch.searchsorted(row.segment, row.place[0] // cells)  # of those that are left
        index = frame * cells + cells_apart(frame, row.place[0] % cells, cells)
        held = torch.zeros(len(row.segment) * cells, dtype=torch.bool, device=device)

        def on_grid(x):
            grid = x.new_zeros(len(held), *x.shape[1:])
            return grid.index_copy_(0, index, x).unflatten(0, (-1, cells))

        valid = held.index_fill_(0, index, True).view(-1, cells)
        tokens = ClipTokens(on_grid(row.features[0]), valid, on_grid(row.scores[0]), present, left)
        merge = Merge.from_assignment(METHODS[schedule.clip_method].clip(tokens), left, valid.view(1, -1))
        number = (valid.flatten().cumsum(0) - 1)[merge.anchor]
        merge = Merge(merge.slot[:, index], merge.weight[:, index], number)
    way = row.way.then((depth, CLIP), merge) if row.traced else row.way
    return replace(row.after(merge), way=way)


def cells_apart(frame: Tensor, cell: Tensor, cells: int) -> Tensor:
    """(N,) a cell for each token alone: of several in one cell of a pooled frame the later have the next.

    Args:
        frame: (N,) of each token, ascending.
        cell: (N,) its own, ascending within a frame.
        cells: of a frame; it has no more tokens.
    """
    first, behind = (torch.searchsorted(frame, frame, right=right) for right in (False, True))
    number = torch.arange(len(frame), device=frame.device) - first
    border = frame * 2 * cells  # the frames' numbers do not reach over it
    shifted = (border + cell - number).cummax(0).values - border + number
    return torch.minimum(shifted, cells - (behind - first) + number)
