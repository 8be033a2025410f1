"""How many tokens a medium takes in a prompt, and the positions of those that are left."""

from __future__ import annotations

import torch
from torch import Tensor

from illava_cli.errors import UsageError
from illava_cli.models.family import Family
from illava_cli.models.media import Features, Pixels, Run
from illava_cli.models.schedule import Schedule, input_kept

BASE = 256  # two channels below it are exact in bfloat16


def counts(family: Family, pixels: Pixels, schedule: Schedule) -> list[int]:
    """Decoder tokens of each of a medium's runs.

    Raises:
        UsageError: they are not known before the tower has run.
    """
    planned = family.tokens(pixels, schedule)
    if planned is None:
        raise UsageError("the engine vllm needs to know how many tokens stay: give the method a share (keep)")
    if not pixels.form.apart:
        return [planned.total]
    kept = [schedule.after_tower(tokens, pixels.tokens) for tokens in pixels.entering if tokens]
    if schedule.input is not None:
        kept = [input_kept(tokens, schedule.input.keep) for tokens in kept]
    if sum(kept) != planned.total:
        raise UsageError(
            "text stands between the frames of this model, and the engine vllm cannot tell how many tokens "
            "stay of each: leave out stages that merge frames or share a clip's tokens among them"
        )
    return kept


def standing(pixels: Pixels, schedule: Schedule) -> list[Run]:
    """How a medium stands in an unmerged prompt: as `Features.runs`, before it is encoded."""
    form = pixels.form
    if form.apart:
        return [Run(form.part(), form.tokens, pixels.times)] * len(pixels.shown)
    # a grid that is formed anew of what is left has places of its own
    kept = schedule.after_tower(form.tokens) if schedule.layout == "grid" else form.tokens
    return [Run(form, form.expansion([kept] * form.segments, "grid").total, pixels.times)]


def advances(family: Family, pixels: Pixels, schedule: Schedule, tokens: list[int]) -> list[int]:
    """Positions that each run takes up: the next text goes on behind them.

    Args:
        tokens: from `counts`.
    """
    if schedule.packed:
        return tokens
    # of a token of text behind it: a model need not go on behind the largest position
    found = standing(pixels, schedule)
    return [int(family.positions(run.length + 1, [(0, run)])[0, -1]) for run in found]


def offsets(family: Family, features: Features, schedule: Schedule) -> Tensor:
    """(T, axes) positions of a medium's tokens after the first of their run."""
    place = features.place
    if schedule.packed:
        return torch.arange(len(place), device=place.device)[:, None].expand(-1, family.rope_axes)
    if features.form.apart:
        place = place % features.form.tokens
    run = features.runs[0]
    return family.positions(run.length, [(0, run)]).to(place.device).T[place]


def as_channels(offsets: Tensor, like: Tensor) -> Tensor:
    """(T, 2 * axes) numbers that go along with the features (T, C)."""
    parts = torch.stack([offsets // BASE, offsets % BASE], dim=-1)
    return parts.flatten(1).to(like.dtype)


def of_channels(channels: Tensor) -> Tensor:
    """(T, axes) offsets."""
    parts = channels.long().unflatten(1, (-1, 2))
    return parts[..., 0] * BASE + parts[..., 1]
