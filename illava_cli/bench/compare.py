"""Whole requests: each preset beside the unmodified model, and what was reached of the bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from illava_cli.bench.flops import Flops, RequestCounts, count
from illava_cli.bench.geometry import merged_counts, unmerged_counts
from illava_cli.bench.lab import OFF, STOCK, WARM_TOKENS, Lab, Plan, in_turn
from illava_cli.bench.media import Medium
from illava_cli.bench.samples import COMPARED, Sample, speedups, summary
from illava_cli.bench.variants import PROMPT, Ours, Stock, measure
from illava_cli.engine.memory import PeakMeter
from illava_cli.engine.record import VisualUsage
from illava_cli.engine.request import Request
from illava_cli.models.schedule import Schedule

# is told of each case what is known so far, and the variant that runs next where it is the first time
Learned = Callable[[dict[str, Any], str | None], None]
BOUNDS = {"vision": "vision", "prefill": "prefill", "ttft": "ttft", "request": "total"}


def compare(
    lab: Lab,
    media: Sequence[Medium],
    batches: Sequence[int],
    plan: Plan,
    progress: Callable[[str], None],
    learned: Learned = lambda result, running: None,
) -> list[dict[str, Any]]:
    """One result for each medium and batch size.

    Args:
        learned: takes each result as it grows, before a variant's first request and after each round, so
            that a run that is cut off is not lost.
    """
    cases = [_Case(lab, medium, batch) for medium in media for batch in batches]
    return [_measured(case, plan, progress, learned) for case in cases]


@dataclass
class _Case:
    """What is known of one medium and batch size; everything by name of the variant."""

    lab: Lab
    medium: Medium
    batch: int
    counts: dict[str, RequestCounts] = field(default_factory=dict)
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    peaks: dict[str, int | None] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def result(self) -> dict[str, Any]:
        """As it stands in the report; a variant is there once it was measured."""
        samples = {name: taken for name, taken in self.samples.items() if taken}
        flops = {name: count(self.lab.shape, self.counts[name]) for name in samples}
        results: dict[str, dict[str, Any]] = {}
        for name, taken in samples.items():
            results[name] = {"tokens": self.tokens[name], **summary(taken, self.batch)}
            results[name]["peak_bytes_beyond_weights"] = self.peaks[name]
            results[name]["flops"] = _flops_record(flops[name])
            if name != STOCK and STOCK in samples:
                results[name] |= _against(samples[STOCK], taken, flops[STOCK], flops[name])
            if OFF in samples and name not in (STOCK, OFF):
                results[name]["over_off"] = _against(samples[OFF], taken, flops[OFF], flops[name])
        return {
            "medium": self.medium.description.record(),
            "batch_size": self.batch,
            "variants": results,
            "left_out": self.left_out,
        }


def _measured(case: _Case, plan: Plan, progress: Callable[[str], None], learned: Learned) -> dict[str, Any]:
    lab, batch = case.lab, case.batch
    label = case.medium.description.label + (f", batch {batch}" if batch > 1 else "")
    variants = lab.variants(case.medium, batch)
    warm_up = 0.0
    for name, variant in list(variants.items()):
        # the bound needs two variants; more are for those who have the time to warm up and measure all
        if len(case.counts) >= 2 and not plan.has_time(warm_up * (len(case.counts) + 2)):
            case.left_out.append(name)
            del variants[name]
            continue
        progress(f"{label}: warm-up of {name}")
        learned(case.result(), name)
        started = time.perf_counter()
        case.counts[name], case.tokens[name], case.peaks[name] = _warm_up(lab, variant, plan.new_tokens)
        warm_up = max(warm_up, time.perf_counter() - started)
    case.samples |= {name: [] for name in variants}
    for number in plan.each_round():
        progress(f"{label}: round {number + 1} of {plan.rounds}")
        for name, variant in in_turn(variants, number):
            case.samples[name].append(measure(variant, lab.next_number(batch), plan.new_tokens))
        learned(case.result(), None)
    return case.result()


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
    expansions = [lab.family.tokens(pixels, Schedule()) for pixels in rows[0]]
    patches = sum(medium.segments * medium.patches[0] for medium in counts.media)
    visual, newlines = sum(e.visual for e in expansions), sum(e.newlines for e in expansions)
    frames = sum(pixels.segments for pixels in rows[0] if pixels.kind == "video")
    usage = VisualUsage(
        patches,
        patches,
        visual,
        visual,
        newlines,
        newlines,
        visual + newlines,
        frames_in=frames,
        frames_kept=frames,
    )
    return counts, {"prompt": len(ids[0]), "visual": asdict(usage)}


def _our_tokens(lab: Lab, variant: Ours, new_tokens: int) -> tuple[RequestCounts, dict[str, Any]]:
    """Token counts of a preset; a traced request says what sizes do not, and warms it up."""
    number = lab.next_number(1)
    variant.expect(WARM_TOKENS)
    answer = variant.answer(number, trace=True)
    prepared = variant.session.prepare(Request(PROMPT, *variant.medium.fresh(number)), fresh=True)
    media = [one.pixels for one in prepared.slots.values()]
    counts = merged_counts(variant.session, media, answer, new_tokens)
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
