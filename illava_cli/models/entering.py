"""What of a medium's pixels the tower is shown: which frames, and which patches or groups of them.

Decided on the CPU, while a medium is preprocessed: all counts are known before the tower runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from illava_cli.models.media import Pixels
from illava_cli.models.schedule import FramesBudget, Schedule, windows
from illava_cli.reduction import METHODS, FrameTokens
from illava_cli.reduction.pixels import Cells, entering, moved, surprise, thumbnails

if TYPE_CHECKING:
    from illava_cli.config.stages import PixelsStage


def admitted(pixels: Pixels, schedule: Schedule) -> Pixels:
    """The medium with what of it enters under a schedule's stages `frames` and `pixels`."""
    steps = list(range(pixels.segments))
    if schedule.frames is not None:
        steps = _frames(pixels, schedule.frames)
    entered = torch.zeros(pixels.segments, pixels.tokens, dtype=torch.bool)
    entered[steps] = True if schedule.pixels is None else _patches(pixels, steps, schedule.pixels)
    return pixels if entered.all() else replace(pixels, entered=entered)


def unpredicted(pixels: Pixels, steps: list[int], tau: float) -> Tensor:
    """(steps, tokens) True for what neighbours do not predict; in a video the step before is one more."""
    found = [entering(cells, tau, before).ravel() for cells, before in _cells(pixels, steps)]
    return torch.from_numpy(np.stack(found))


def sampled(pixels: Pixels, every: int | None) -> Tensor:
    """(segments, tokens) True at each `every`-th place of each `every`-th row, padding aside: what of blank
    paper says how far it reaches.
    """
    rows, columns = _grid(pixels)
    places = torch.zeros(pixels.segments, rows, columns, dtype=torch.bool)
    if every is not None:
        places[:, ::every, ::every] = True
    padding, places = pixels.form.outside(), places.flatten(1)
    return places if padding is None else places & ~padding


def predictable(pixels: Pixels, left: Tensor) -> float:
    """Share of a picture that neighbours predict, its padding aside.

    Args:
        left: (segments, tokens) what they do not.
    """
    padding = pixels.form.outside()
    inside = torch.ones_like(left) if padding is None else ~padding
    return 1 - float((left & inside).sum() / inside.sum())


def _patches(pixels: Pixels, steps: list[int], stage: PixelsStage) -> Tensor:
    """(steps, tokens) which tokens of the steps enter."""
    if stage.keep is None:
        return unpredicted(pixels, steps, stage.tau) | sampled(pixels, stage.every)[steps]
    padding = pixels.form.outside()
    inside = pixels.segments * pixels.tokens - (0 if padding is None else int(padding.sum()))
    most = max(1, round(stage.keep * inside))
    first = _sampled_within(pixels, steps, stage.every, most)
    if pixels.kind == "image":  # its tiles go on together: of each the first enters, as of any picture
        first[:, 0] = True
        most = max(most, len(steps))
    # both at once, though ranks may not be needed: frames are gone through once
    rows = [
        (entering(cells, stage.tau, before).ravel(), surprise(cells, before).ravel())
        for cells, before in _cells(pixels, steps)
    ]
    found, told = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
    found |= first
    return found if found.sum() <= most else _least_told(found, first, told, most)


def _sampled_within(pixels: Pixels, steps: list[int], every: int | None, most: int) -> Tensor:
    """(steps, tokens) what `every` lets in, coarser where that is more than may enter."""
    while every is not None:
        places = sampled(pixels, every)[steps]
        if places.sum() <= most:
            return places
        every = 2 * every if every < max(_grid(pixels)) else None
    return torch.zeros(len(steps), pixels.tokens, dtype=torch.bool)


def _least_told(found: Tensor, first: Tensor, told: Tensor, most: int) -> Tensor:
    """(steps, tokens) so many of those `found`: those of `first`, then what neighbours tell least."""
    rank = told.add(256.0 * first).masked_fill_(~found, -1)
    left = torch.zeros(found.numel(), dtype=torch.bool)
    left[rank.flatten().argsort(descending=True, stable=True)[:most]] = True
    return left.view_as(found)


def _cells(pixels: Pixels, steps: list[int]) -> Iterator[tuple[Cells, Cells | None]]:
    """Each step, and in a video the one before it."""
    grid, before = _grid(pixels), None
    for step in steps:
        cells = Cells.of(pixels.pictures(step), *grid)
        yield cells, before
        before = cells if pixels.kind == "video" else None


def _grid(pixels: Pixels) -> tuple[int, int]:
    view = pixels.form.views()[0]
    return view.rows, view.columns


def _frames(pixels: Pixels, budget: FramesBudget) -> list[int]:
    """The frames, or steps, that enter."""
    all_steps = list(range(pixels.segments))
    few, still = budget.pixels < 1, budget.still
    if still is None and not few:
        return all_steps
    steps, looks, last, alike = [], [], None, 0
    for step, (cells, _) in enumerate(_cells(pixels, all_steps)):
        stands = last is not None and still is not None and moved(cells, last, still) <= still
        alike = alike + 1 if stands else 1
        if alike > budget.still_frames:
            continue
        last = last if stands else cells
        steps.append(step)
        if few:
            looks.append(torch.from_numpy(thumbnails(cells)))
    most = max(1, round(len(all_steps) * budget.pixels))
    return steps if len(steps) <= most else _unlike(steps, looks, budget.method, most)


def _unlike(steps: list[int], looks: list[Tensor], method: str, most: int) -> list[int]:
    """So many of the steps, each the first of those that look like it."""
    found, start, left = [], 0, 0
    for size in windows(len(steps)):
        stop = start + size
        share = most * stop // len(steps) - left
        if share:
            assignment = METHODS[method].frames(FrameTokens(torch.stack(looks[start:stop]), share))
            first = assignment.target[0] == torch.arange(size)
            found += [step for step, stays in zip(steps[start:stop], first.tolist(), strict=True) if stays]
        start, left = stop, left + share
    return found
