"""What a schedule saves: operations counted, and seconds up to the first token measured."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from threading import Event

from illava_cli.bench.flops import count
from illava_cli.bench.geometry import merged_counts, model_shape
from illava_cli.engine.session import Request, Session
from illava_cli.evals.pair import short
from illava_cli.evals.sample import EvalSample


def operations(session: Session, samples: Sequence[EvalSample], cancel: Event) -> int:
    """Counted up to the first token, over all samples.

    Each is asked for one token: what sizes do not say is known from a trace. The session must keep no encoded
    media, as one that is made by `under`.
    """
    lane, shape, total = short(session), model_shape(session.family), 0
    for sample in samples:
        answer = lane.ask(sample.prompt, sample.images, sample.videos, trace=True, cancel=cancel)
        prepared = lane.prepare(Request(sample.prompt, sample.images, sample.videos), fresh=True)
        media = [slot.pixels for slot in prepared.slots.values()]
        total += count(shape, merged_counts(lane, media, answer, 1)).ttft
    return total


def speedups(
    plain: Session, others: Sequence[Session], samples: Sequence[EvalSample], rounds: int, cancel: Event
) -> list[float]:
    """Of each schedule: seconds of the unmodified model up to the first token over its own.

    The median over samples and rounds; all take turns, so that a machine that slows down slows all of them.
    Sessions as of `operations`.
    """
    lanes = [short(session) for session in (plain, *others)]
    ratios: list[list[float]] = [[] for _ in others]
    for number in range(rounds + 1):  # the first round warms up
        for sample in samples:
            took = [
                lane.ask(sample.prompt, sample.images, sample.videos, cancel=cancel).timings.ttft_s
                for lane in lanes
            ]
            if number:
                for ratio, own in zip(ratios, took[1:], strict=True):
                    ratio.append(took[0] / own)
    return [median(found) for found in ratios]
