"""Schedules as vLLM can run them: nothing merges in the decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from illava_cli.config.stages import InputStage
from illava_cli.errors import UsageError
from illava_cli.models.schedule import Schedule
from illava_cli.reduction import METHODS

PRUNING = "attention-prune"  # of a method that has a meaning in the decoder only
ARTICLE = {"image": "an", "video": "a"}


def before_decoder(schedule: Schedule) -> Schedule:
    """The schedule with what it keeps in the decoder kept before it; there survivors keep their own places.

    Raises:
        UsageError: what cannot be done there.
    """
    if schedule.guide is not None:
        raise UsageError("the engine vllm has no room for a guide: leave the stage guide out")
    if not schedule.decoder:
        return schedule
    share = math.prod(point.keep for _, point in schedule.decoder)
    (_, first), *_ = schedule.decoder
    if schedule.clip is not None:
        clip = schedule.clip.model_copy(update={"keep": schedule.clip.keep * share})
        return replace(schedule, clip=clip, decoder=(), layout="faithful")
    entry = schedule.input
    if entry is None:
        method = first.method if "input" in METHODS[first.method].stages else PRUNING
        entry = InputStage(method=method, keep=share)
    elif entry.keep is not None:
        entry = entry.model_copy(update={"keep": entry.keep * share})
    return replace(schedule, input=entry, decoder=(), layout="faithful")


def note(schedules: Mapping[str, Schedule]) -> str | None:
    """What to say of schedules, by kind of medium, that are changed so.

    Raises:
        UsageError: they cannot be.
    """
    for schedule in schedules.values():
        before_decoder(schedule)
    shares = {
        kind: math.prod(point.keep for _, point in one.decoder)
        for kind, one in schedules.items()
        if one.decoder
    }
    if not shares:
        return None
    kept = " and ".join(f"{share:.0%} of {ARTICLE[kind]} {kind}'s" for kind, share in shares.items())
    return f"in vLLM nothing merges in the decoder: {kept} visual tokens are kept before it instead"
