"""Where each visual token lies: in which image or frame, and at which place of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from illava_cli.evals.world.task import Album, Clip, Stage
from tiny.checkpoint import PATCH, TILE
from tiny.referents import Place, Referent

SIDE = TILE // PATCH
NEAR = 1.0  # tokens on each side of a place that show it


@dataclass(frozen=True)
class Sight:
    """The N visual tokens of a stage.

    Args:
        part: (N,) the image or frame each belongs to; a clip's newline to the last one.
        places: (N, 2) of their middles, across and down as shares of the picture; NaN for a newline, and
            for a picture shrunk to one tile that is followed by its tiles.
        step: width and height of a token, as shares.
        kind: "image" or "frame" where there are several.
    """

    part: Tensor
    places: Tensor
    step: tuple[float, float]
    kind: str | None = None

    def near(self, place: Place, part: int = 0) -> Tensor:
        """(N,) which tokens show a place."""
        reach = NEAR * torch.tensor(self.step)
        return ((self.places - torch.tensor(place)).abs() <= reach).all(-1) & (self.part == part)

    def shows(self, one: Referent) -> Tensor:
        """(N,) which tokens show what a name stands for; none where its place is unknown."""
        none = torch.zeros_like(self.part, dtype=torch.bool)
        if one.first is None or one.last is None:
            return none
        if self.kind == "frame":
            if one.seen is None:
                return none
            frames = [number for number, seen in enumerate(one.seen) if seen]
            return self.near(one.first, frames[0]) | self.near(one.last, frames[-1])
        return self.near(one.first, one.image or 0)


def sight(stage: Stage, square: bool) -> Sight:
    """Of a stage as the model lays it out; `square`: without tiles."""
    if isinstance(stage, Clip):
        count, tokens = len(stage.frames), _grid(SIDE // 2, SIDE // 2)
        places = torch.cat([tokens.repeat(count, 1), _nowhere(1)])
        part = (torch.arange(len(places)) // len(tokens)).clamp(max=count - 1)
        return Sight(part, places, (2 / SIDE, 2 / SIDE), "frame")
    if isinstance(stage, Album):
        one = torch.cat([_grid(SIDE, SIDE), _nowhere(1)])
        part = torch.arange(len(stage.scenes)).repeat_interleave(len(one))
        return Sight(part, one.repeat(len(stage.scenes), 1), (1 / SIDE, 1 / SIDE), "image")
    if square:
        places, step = torch.cat([_grid(SIDE, SIDE), _nowhere(1)]), (1 / SIDE, 1 / SIDE)
    else:
        across, down = stage.scene.width // PATCH, stage.scene.height // PATCH
        whole = _grid(SIDE, SIDE) if across == down == SIDE else _nowhere(SIDE * SIDE)
        rows = torch.cat([_grid(across, down).unflatten(0, (down, across)), _nowhere(down)[:, None]], 1)
        places, step = torch.cat([whole, rows.flatten(0, 1)]), (1 / across, 1 / down)
    return Sight(torch.zeros(len(places), dtype=torch.long), places, step)


def _grid(across: int, down: int) -> Tensor:
    """(down * across, 2) the middles of a grid's cells, row by row."""
    y, x = torch.meshgrid(
        (torch.arange(down) + 0.5) / down, (torch.arange(across) + 0.5) / across, indexing="ij"
    )
    return torch.stack([x, y], -1).flatten(0, 1)


def _nowhere(count: int) -> Tensor:
    return torch.full((count, 2), float("nan"))
