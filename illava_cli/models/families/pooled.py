"""The form of a video before a tower over square tiles: each frame is one, and is pooled 2x2 behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from illava_cli.models.families.anyres import coarser, rescaled
from illava_cli.models.families.newlines import with_final_newline, with_row_newlines
from illava_cli.models.families.tiled import Tiled
from illava_cli.models.forms import Expansion, Layout
from illava_cli.models.survivors import Survivors
from illava_cli.reduction import Merge
from illava_cli.reduction.nearest import nearest
from illava_cli.trace import View


@dataclass(frozen=True)
class Frames(Tiled):
    """Frames of a video, each pooled 2x2; the video ends with a newline, or each row of each frame does."""

    count: int
    row_newlines: bool = False

    @property
    def segments(self) -> int:
        return self.count

    def views(self) -> list[View]:
        return [self.view(frame=index) for index in range(self.count)]

    @property
    def pools(self) -> bool:
        return True

    @property
    def pooled(self) -> int:
        """Cells along an unmerged frame after the pooling."""
        return math.ceil(self.side / 2)

    def left(self, kept: int) -> int:
        """Cells of a pooled frame that stay where `kept` of its tokens do."""
        return max(1, round(self.pooled**2 * kept / self.tokens))

    def rows(self, kept: int, layout: str) -> int:
        """Rows of the grid on which a frame's cells lie after the pooling."""
        return math.ceil(math.isqrt(kept) / 2) if layout == "grid" else self.pooled

    def cells(self, kept: int, layout: str) -> int:
        return self.rows(kept, layout) ** 2

    def expansion(self, kept: Sequence[int], layout: str, entered: Tensor | None = None) -> Expansion:
        rows = self.rows(kept[0], layout)
        cells = [rows**2 if self.regrids([tokens], layout) else self.left(tokens) for tokens in kept]
        return Expansion(sum(cells), len(kept) * rows if self.row_newlines else 1)

    def condense(self, survivors: Survivors, layout: str) -> Survivors:
        """Frames are pooled at once: by the model's own rule, or the most attended survivors remain."""
        if self.regrids([survivors.left], layout):
            return self._interpolated(survivors, math.isqrt(survivors.left))
        m = self.left(survivors.left)
        row, column = survivors.place // self.side, survivors.place % self.side
        merge = Merge.from_assignment(nearest(survivors.scores, row, column, m), m)
        kept = replace(survivors, padding=None).after(merge)
        row, column = (
            rescaled(x, self.side, self.pooled) for x in (kept.place // self.side, kept.place % self.side)
        )
        cell, order = (row * self.pooled + column).sort(dim=1, stable=True)
        joined = merge.then(Merge.select(order, m)) if survivors.traced else None
        return replace(kept.take(order), place=cell, pooled=joined)

    def _interpolated(self, survivors: Survivors, side: int) -> Survivors:
        out = math.ceil(side / 2)

        def pooled(x: Tensor) -> Tensor:  # (F, side * side, C) -> (F, out * out, C)
            cells = x.unflatten(1, (side, side)).permute(0, 3, 1, 2)
            return interpolate(cells, size=[out] * 2, mode="bilinear").flatten(2).transpose(1, 2)

        features, scores = pooled(survivors.features), survivors.scores
        place = torch.arange(out**2, device=features.device).expand(len(features), -1)
        joined = None
        if survivors.traced:
            joined = Merge.cat([coarser(side, side, out, out).to(features.device)] * len(features))
        scores = None if scores is None else pooled(scores[..., None])[..., 0]
        # the decoder's cells are no tokens of the tower: nothing else rides along
        none = dict.fromkeys(("padding", "keys", "sizes"))
        return replace(survivors, features=features, place=place, scores=scores, pooled=joined, **none)

    def grid(self, survivors: Survivors, side: int, newline: Tensor) -> Layout:
        return self._laid(survivors, math.ceil(side / 2), newline)

    def faithful(self, survivors: Survivors, newline: Tensor, entered: Tensor | None) -> Layout:
        return self._laid(survivors, self.pooled, newline)

    def _laid(self, survivors: Survivors, pooled: int, newline: Tensor) -> Layout:
        """Cells of all frames at their places among `pooled` x `pooled` of each, with newlines."""
        tokens, place, length = survivors.features[0], survivors.place[0], self.count * pooled**2
        if not self.row_newlines:
            return with_final_newline(tokens, place, length + 1, newline)
        frames = survivors.segment[:, None] * pooled + torch.arange(pooled, device=place.device)
        rows = self.count * pooled
        return with_row_newlines(
            tokens, place // pooled, place % pooled, rows, pooled, newline, frames.flatten()
        )
