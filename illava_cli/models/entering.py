"""What of a medium's pixels the tower is shown: which frames, and which patches or groups of them.

Decided on the CPU, while a medium is preprocessed: all counts are known before the tower runs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from illava_cli.models.media import Pixels
from illava_cli.models.schedule import FramesBudget, Schedule, windows
from illava_cli.reduction import METHODS, FrameTokens
from illava_cli.reduction.pixels import entering, moved, thumbnails


def admitted(pixels: Pixels, schedule: Schedule) -> Pixels:
    """The medium with what of it enters under a schedule's stages `frames` and `pixels`."""
    steps = list(range(pixels.segments))
    if schedule.frames is not None:
        steps = _frames(pixels, schedule.frames)
    entered = torch.zeros(pixels.segments, pixels.tokens, dtype=torch.bool)
    entered[steps] = True
    if schedule.pixels is not None:
        entered[steps] = unpredicted(pixels, steps, schedule.pixels.tau)
        if schedule.pixels.every is not None:
            entered[steps] |= sampled(pixels, schedule.pixels.every)[steps]
    return pixels if entered.all() else replace(pixels, entered=entered)


def unpredicted(pixels: Pixels, steps: list[int], tau: float) -> Tensor:
    """(steps, tokens) True for what neighbours do not predict; in a video the step before is one more."""
    rows, columns = _grid(pixels)
    found, before = [], None
    for step in steps:
        picture = pixels.pictures(step)
        found.append(entering(picture, rows, columns, tau, before).ravel())
        before = picture if pixels.kind == "video" else None
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


def _grid(pixels: Pixels) -> tuple[int, int]:
    view = pixels.form.views()[0]
    return view.rows, view.columns


def _frames(pixels: Pixels, budget: FramesBudget) -> list[int]:
    """The frames, or steps, that enter."""
    grid, all_steps = _grid(pixels), list(range(pixels.segments))
    few = budget.pixels < 1
    if budget.still is None and not few:
        return all_steps
    steps, looks, last = [], [], None
    for step in all_steps:
        picture = pixels.pictures(step)
        if last is not None and budget.still is not None and moved(picture, last, *grid) <= budget.still:
            continue
        last = picture
        steps.append(step)
        if few:
            looks.append(torch.from_numpy(thumbnails(picture, *grid)))
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
