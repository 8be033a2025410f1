"""Asks every question under every variant, of one loaded model or one server, and keeps the answers.

The variants take turns at each batch, so that a machine that slows down slows all of them; first the
reference, whose first-token distribution the others are held against.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

from illava_cli.engine.record import error_record
from illava_cli.evals.lanes import Answer, AnyLane, Lane
from illava_cli.evals.matching import is_right
from illava_cli.evals.results import Key, Results
from illava_cli.evals.sample import EvalSample
from illava_cli.evals.statistics import divergence
from illava_cli.evals.survivors import survivors
from illava_cli.evals.taskfile import Question


@dataclass(frozen=True)
class Asked:
    """What the report has to know of a question: its task, and the key of each variant's answer."""

    task: str
    keys: dict[str, Key]


class Runner:
    """Runs questions in batches under several variants; `results` decides what is still to be asked."""

    def __init__(
        self,
        lanes: Sequence[AnyLane],
        results: Results,
        batch_size: int,
        trace: bool = False,
        cancel: Event | None = None,
        peaks: bool = True,
    ):
        """
        Args:
            lanes: the reference first.
            batch_size: questions of one task and as many media that share a pass.
            peaks: ask the first questions more often, to warm up and for the peak of memory.
            trace: note which tokens survive in the decoder; questions are then asked one at a time.
            cancel: set it to stop; the batch that is being asked is then lost.
        """
        self.lanes, self.results = lanes, results
        self.batch_size, self.trace = (1 if trace else batch_size), trace
        self.cancel = cancel or Event()
        self.peaks = peaks
        self._warm: set[tuple] = set()

    def run(self, questions: Sequence[Question]) -> Iterator[list[Asked]]:
        """Ask what has no answer yet; yields the questions of each batch when all variants have theirs."""
        for batch in alike(questions, self.batch_size):
            keys = [{lane.variant.name: lane.key(sample) for lane in self.lanes} for sample in batch]
            self._ask_all(batch, keys)
            yield [Asked(sample.task, own) for sample, own in zip(batch, keys, strict=True)]

    def _ask_all(self, batch: list[EvalSample], keys: list[dict[str, Key]]) -> None:
        """A batch under all variants that lack an answer to it."""
        answered = self.results.is_answered
        missing = {name: [i for i in range(len(batch)) if not answered(keys[i][name])] for name in keys[0]}
        wanted = sorted(set().union(*missing.values()))
        if not wanted:
            return
        peaks = {}  # of the first question that a variant lacks
        for lane in self.lanes:
            if indices := missing[lane.variant.name]:
                peaks[lane.variant.name, indices[0]] = self._warm_up(lane, batch[indices[0]])
        first = self.lanes[0]
        # asked again where its answer is there: its logits are not
        again = wanted if first.has_logits else missing[first.variant.name]
        reference = dict(zip(again, self._ask(first, [batch[i] for i in again]), strict=True))
        for lane in self.lanes:
            name = lane.variant.name
            indices = missing[name]
            if lane is first:
                answers = [reference[i] for i in indices]
            else:
                answers = self._ask(lane, [batch[i] for i in indices])
            self.results.add(
                (keys[i][name], self._record(lane, batch[i], answer, reference.get(i), peaks.get((name, i))))
                for i, answer in zip(indices, answers, strict=True)
            )

    def _warm_up(self, lane: AnyLane, sample: EvalSample) -> int | None:
        """Ask the first question of each kind more often than it counts: the peak memory of one alone.

        A first pass is slow and allocates what stays, and one whose memory is watched is slow too: nobody's
        time counts either.
        """
        kind = (lane.variant.name, *_kind(sample))
        if not self.peaks or kind in self._warm or not isinstance(lane, Lane):
            return None
        if not any(name == lane.variant.name for name, *_ in self._warm):
            self._ask(lane, [sample])
        with lane.meter() as meter:
            (answer,) = self._ask(lane, [sample])
        if answer.error is not None:
            return None
        self._warm.add(kind)
        return meter.peak_bytes

    def _ask(self, lane: AnyLane, samples: list[EvalSample]) -> list[Answer]:
        return lane.ask(samples, self.cancel, self.trace)

    def _record(
        self,
        lane: AnyLane,
        sample: EvalSample,
        answer: Answer,
        reference: Answer | None,
        peak_bytes: int | None,
    ) -> dict[str, Any]:
        """An answer's record as `illava run` writes it, and what an evaluation adds."""
        generation, name = answer.generation, lane.variant.name
        about = {"task": sample.task, "variant": name}
        if generation is None:
            config = lane.variant.config
            model = str(config.model.id)
            return about | error_record(answer.error, id=sample.id, model=model, preset=config.preset)
        kl = None
        if lane is not self.lanes[0] and reference is not None and reference.logits is not None:
            kl = divergence(reference.logits, answer.logits)
        record = about | generation.record()
        record |= {
            "answer": sample.answer,
            "correct": is_right(generation.text, sample.answer, sample.choices),
            "kl": kl if kl is not None and math.isfinite(kl) else None,  # logits may overflow in float16
            "seconds": round(answer.seconds, 6),
            "batch_size": answer.batch_size,
            "peak_bytes_beyond_weights": peak_bytes,
        }
        if self.trace:
            record["survivors"] = survivors(generation)
        return record


def alike(questions: Sequence[Question], size: int) -> Iterator[list[EvalSample]]:
    """Batches of at most `size` samples of one task and as many media each, in the order they fill up."""
    waiting: dict[tuple, list[EvalSample]] = {}
    for question in questions:
        sample = question()
        kind = _kind(sample)
        waiting.setdefault(kind, []).append(sample)
        if len(waiting[kind]) == size:
            yield waiting.pop(kind)
    yield from waiting.values()


def _kind(sample: EvalSample) -> tuple[str, int, int]:
    """What questions that share a pass have in common."""
    return sample.task, len(sample.images), len(sample.videos)
