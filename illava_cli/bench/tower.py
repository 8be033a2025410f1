"""Time and peak memory of the vision part alone, as media grow: is the cost linear, the memory flat?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from illava_cli.bench import stock
from illava_cli.bench.lab import Lab, Plan, in_turn
from illava_cli.bench.media import Medium
from illava_cli.bench.samples import spread
from illava_cli.bench.variants import Ours, Stock
from illava_cli.engine.generation import synchronize
from illava_cli.engine.memory import PeakMeter
from illava_cli.models.encoder import encode
from illava_cli.models.media import Pixels


def measure_tower(
    lab: Lab, media: Sequence[Medium], plan: Plan, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Seconds and peak bytes of tower, projector and packing, one result for each medium."""
    return [_case(lab, medium, plan, progress) for medium in media]


def _case(lab: Lab, medium: Medium, plan: Plan, progress: Callable[[str], None]) -> dict[str, Any]:
    label = medium.description.label
    variants = lab.variants(medium, 1)
    progress(f"{label}: warm-up")
    for variant in variants.values():
        _one(lab, variant)
    peaks = {name: _peak(lab, variant) for name, variant in variants.items()}
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for number in plan.each_round():
        progress(f"{label}: round {number + 1} of {plan.rounds}")
        for name, variant in in_turn(variants, number):
            taken[name].append(_one(lab, variant))
    results = {
        name: {"rounds": len(rounds), "seconds": spread(rounds), "peak_bytes": peaks[name]}
        for name, rounds in taken.items()
    }
    return {"medium": medium.description.record(), "variants": results}


@torch.inference_mode()
def _one(lab: Lab, variant: Ours | Stock) -> float:
    """Seconds; decoding and preprocessing come before."""
    pixels = _read(lab, variant)
    started = time.perf_counter()
    _encode(lab, variant, pixels)
    return time.perf_counter() - started


@torch.inference_mode()
def _peak(lab: Lab, variant: Ours | Stock) -> int | None:
    """Peak bytes of the same work."""
    pixels = _read(lab, variant)
    with PeakMeter(lab.family.device) as meter:
        _encode(lab, variant, pixels)
    return meter.peak_bytes


def _read(lab: Lab, variant: Ours | Stock) -> list[Pixels]:
    return variant.medium.read(lab.family, *variant.medium.fresh(lab.next_number(1)))


def _encode(lab: Lab, variant: Ours | Stock, pixels: list[Pixels]) -> None:
    family = lab.family
    if isinstance(variant, Stock):
        side = stock.stock_family(family)
        inputs = stock.on_device(family, variant.model, side.inputs(variant.model, pixels))
        side.run_vision(variant.model, inputs)
    else:
        rules = variant.session.rules
        shown = [rules.admitted(one) for one in pixels]
        encode(family, shown, [rules.schedule(one) for one in shown])
    synchronize(family.device)
