"""Time and peak memory of the vision part alone, as media grow: is the cost linear, the memory flat?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from illava_cli.bench import stock
from illava_cli.bench.lab import Lab, Plan
from illava_cli.bench.media import Medium
from illava_cli.bench.samples import spread
from illava_cli.bench.variants import Ours, Stock, synchronize
from illava_cli.engine.memory import PeakMeter


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
    taken: dict[str, list[tuple[float, int | None]]] = {name: [] for name in variants}
    for number in plan.each_round():
        progress(f"{label}: round {number + 1} of {plan.rounds}")
        for name, variant in variants.items():
            taken[name].append(_one(lab, variant))
    results = {}
    for name, rounds in taken.items():
        seconds, peaks = zip(*rounds, strict=True)
        results[name] = {"rounds": len(rounds), "seconds": spread(seconds), "peak_bytes": spread(peaks)}
    return {"medium": medium.description.record(), "variants": results}


@torch.inference_mode()
def _one(lab: Lab, variant: Ours | Stock) -> tuple[float, int | None]:
    """Seconds and peak bytes; decoding and preprocessing come before."""
    family, medium = lab.family, variant.medium
    pixels = medium.read(family, *medium.fresh(lab.next_number(1)))
    with PeakMeter(family.device) as meter:
        started = time.perf_counter()
        if isinstance(variant, Stock):
            inputs = stock.INPUTS[family.key].tensors(variant.model, pixels)
            inputs = stock.on_device(family, variant.model, inputs)
            stock.INPUTS[family.key].vision(variant.model, inputs)
        else:
            family.encode(pixels, variant.session.reduction)
        synchronize(family.device)
        seconds = time.perf_counter() - started
    return seconds, meter.peak_bytes
