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


def operations(session: Session, sample: EvalSample, cancel: Event) -> int:
    """Counted up to the first token of one question.

    It is asked for one token: what sizes do not say is known from a trace. The session must keep no encoded
    media, as one that is made by `under`.
    """
    lane = short(session)
    answer = lane.ask(sample.prompt, sample.images, sample.videos, trace=True, cancel=cancel)
    prepared = lane.prepare(Request(sample.prompt, sample.images, sample.videos), fresh=True)
    media = [slot.pixels for slot in prepared.slots.values()]
    return count(model_shape(session.family), merged_counts(lane, media, answer, 1)).ttft


def speedups(
    sessions: Sequence[Session], samples: Sequence[EvalSample], rounds: int, cancel: Event
) -> list[float]:
    """Seconds of the first session up to the first token over those of each, as `operations` are compared:
    sums over all samples, here of medians over the rounds.

    All take turns, in an order that changes, so that a machine that slows down slows all of them. Sessions as
    of `operations`.
    """
    lanes = [short(session) for session in sessions]
    took: list[list[list[float]]] = [[[] for _ in samples] for _ in lanes]
    for number in range(rounds + 1):  # the first round warms up
        for place, sample in enumerate(samples):
            for turn in range(len(lanes)):
                lane = (turn + number + place) % len(lanes)
                answer = lanes[lane].ask(sample.prompt, sample.images, sample.videos, cancel=cancel)
                if number:
                    took[lane][place].append(answer.timings.ttft_s)
    sums = [sum(map(median, own)) for own in took]
    return [sums[0] / own for own in sums]
