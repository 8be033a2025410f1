"""Whole requests: each preset beside the unmodified model, and what was reached of the bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from illava_cli.bench.flops import Flops, RequestCounts, count
from illava_cli.bench.geometry import merged_counts, unmerged_counts
from illava_cli.bench.lab import OFF, STOCK, WARM_TOKENS, Lab, Plan, in_turn
from illava_cli.bench.media import Medium
from illava_cli.bench.samples import COMPARED, Sample, speedups, summary
from illava_cli.bench.variants import Ours, Stock, measure
from illava_cli.engine.memory import PeakMeter
from illava_cli.engine.record import VisualUsage

BOUNDS = {"vision": "vision", "prefill": "prefill", "ttft": "ttft", "request": "total"}


def compare(
    lab: Lab, media: Sequence[Medium], batches: Sequence[int], plan: Plan, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One result for each medium and batch size."""
    return [_case(lab, medium, batch, plan, progress) for medium in media for batch in batches]


def _case(
    lab: Lab, medium: Medium, batch: int, plan: Plan, progress: Callable[[str], None]
) -> dict[str, Any]:
    label = medium.description.label + (f", batch {batch}" if batch > 1 else "")
    variants = lab.variants(medium, batch)
    counts, tokens, peaks, left_out = {}, {}, {}, []
    warm_up = 0.0
    for name, variant in list(variants.items()):
        # the bound needs two variants; more are for those who have the time to warm up and measure all
        if len(counts) >= 2 and not plan.has_time(warm_up * (len(counts) + 2)):
            left_out.append(name)
            del variants[name]
            continue
        progress(f"{label}: warm-up of {name}")
        started = time.perf_counter()
        counts[name], tokens[name], peaks[name] = _warm_up(lab, variant, plan.new_tokens)
        warm_up = max(warm_up, time.perf_counter() - started)
    samples: dict[str, list[Sample]] = {name: [] for name in variants}
    for number in plan.each_round():
        progress(f"{label}: round {number + 1} of {plan.rounds}")
        for name, variant in in_turn(variants, number):
            samples[name].append(measure(variant, lab.next_number(batch), plan.new_tokens))
    flops = {name: count(lab.shape, counts[name]) for name in variants}
    results = {}
    for name in variants:
        results[name] = {"tokens": tokens[name], **summary(samples[name], batch)}
        results[name]["peak_bytes_beyond_weights"] = peaks[name]
        results[name]["flops"] = _flops_record(flops[name])
        if name != STOCK:
            results[name] |= _against(samples[STOCK], samples[name], flops[STOCK], flops[name])
        if OFF in variants and name not in (STOCK, OFF):
            results[name]["over_off"] = _against(samples[OFF], samples[name], flops[OFF], flops[name])
    return {
        "medium": medium.description.record(),
        "batch_size": batch,
        "variants": results,
        "left_out": left_out,
    }


def _warm_up(
    lab: Lab, variant: Stock | Ours, new_tokens: int
) -> tuple[RequestCounts, dict[str, Any], int | None]:
    """Run a variant before the clock counts: token counts of one request, and peak memory of the batch."""
    with PeakMeter(lab.family.device) as traced:
        if isinstance(variant, Stock):
            found = _stock_tokens(lab, variant, new_tokens)
        else:
            found = _our_tokens(lab, variant, new_tokens)
    if isinstance(variant, Ours) and variant.batch == 1 and lab.family.device.type == "cpu":
        return *found, traced.peak_bytes  # a trace is small: a second run would cost more than it tells
    with PeakMeter(lab.family.device) as meter:
        measure(variant, lab.next_number(variant.batch), WARM_TOKENS)
    return *found, meter.peak_bytes


def _stock_tokens(lab: Lab, variant: Stock, new_tokens: int) -> tuple[RequestCounts, dict[str, Any]]:
    """Token counts of the unmodified model, from the geometry of its input."""
    media = [variant.medium.fresh(lab.next_number(1))]
    rows = variant.read(media)
    ids = variant.ids(media, rows)
    counts = unmerged_counts(lab.family, rows[0], len(ids[0]), new_tokens)
    expansions = [lab.family.stock_tokens(pixels) for pixels in rows[0]]
    patches = sum(medium.segments * medium.patches[0] for medium in counts.media)
    visual, newlines = sum(e.visual for e in expansions), sum(e.newlines for e in expansions)
    usage = VisualUsage(patches, patches, visual, visual, newlines, newlines)
    return counts, {"prompt": len(ids[0]), "visual": asdict(usage)}


def _our_tokens(lab: Lab, variant: Ours, new_tokens: int) -> tuple[RequestCounts, dict[str, Any]]:
    """Token counts of a preset, from a traced request, which also warms it up."""
    number = lab.next_number(1)
    variant.expect(WARM_TOKENS)
    answer = variant.answer(number, trace=True)
    media = variant.medium.read(lab.family, *variant.medium.fresh(number))
    counts = merged_counts(lab.family, media, answer, new_tokens)
    return counts, {"prompt": answer.usage.prompt_tokens, "visual": asdict(answer.usage.visual)}


def _flops_record(flops: Flops) -> dict[str, Any]:
    """Operations of one request, by stage and by layer."""
    stages = {stage: getattr(flops, name) for stage, name in BOUNDS.items()}
    return stages | {"by_part": asdict(flops)}


def _against(
    theirs: list[Sample], ours: list[Sample], their_flops: Flops, our_flops: Flops
) -> dict[str, dict[str, Any]]:
    """Measured speed-up, its bound, and the share of the bound that was reached."""
    measured = speedups(theirs, ours)
    bound = {s: getattr(their_flops, BOUNDS[s]) / getattr(our_flops, BOUNDS[s]) for s in COMPARED}
    efficiency = {stage: measured[stage]["median"] / bound[stage] for stage in COMPARED}
    return {"speedup": measured, "bound": bound, "efficiency": efficiency}


def batching(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a batch gains over as many single requests, where both were measured."""
    single = [result for result in results if result["batch_size"] == 1]
    gains = []
    for result in results:
        size, medium = result["batch_size"], result["medium"]
        alone = next((other for other in single if other["medium"] == medium), None)
        if size == 1 or alone is None:
            continue
        for name in filter(alone["variants"].get, result["variants"]):
            one, together = (r["variants"][name]["seconds"]["request"]["median"] for r in (alone, result))
            gains.append(
                {
                    "medium": medium["label"],
                    "variant": name,
                    "batch_size": size,
                    "single_requests_s": one * size,
                    "batch_s": together,
                    "speedup": one * size / together,
                }
            )
    return gains
