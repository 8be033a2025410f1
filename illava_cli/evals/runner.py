"""Asks every question under every variant, on one loaded model, and keeps the answers.

The variants take turns at each batch, so that a machine that slows down slows all of them; first the
reference, whose first-token distribution the others are held against.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

from torch import Tensor

from illava_cli.engine.memory import PeakMeter
from illava_cli.engine.record import Generation, error_record
from illava_cli.engine.session import Request, Session
from illava_cli.errors import Cancelled
from illava_cli.evals.matching import is_right
from illava_cli.evals.results import Key, Results, asked, without_media
from illava_cli.evals.sample import EvalSample
from illava_cli.evals.statistics import divergence
from illava_cli.evals.survivors import survivors
from illava_cli.evals.taskfile import Question
from illava_cli.evals.variants import Variant


@dataclass(frozen=True)
class Lane:
    """A variant and the session that answers for it."""

    variant: Variant
    session: Session

    def sample(self, sample: EvalSample) -> EvalSample:
        """What this variant is asked."""
        return without_media(sample) if self.variant.blind else sample

    def key(self, sample: EvalSample) -> Key:
        """Where its answer is kept."""
        return sample.id, asked(self.sample(sample)), self.variant.config.hash()


@dataclass(frozen=True)
class Asked:
    """What the report has to know of a question: its task, and the key of each variant's answer."""

    task: str
    keys: dict[str, Key]


@dataclass(frozen=True)
class _Answer:
    """An answer, or why there is none; seconds are this question's part of its batch's."""

    generation: Generation | None
    error: Exception | None
    seconds: float
    batch_size: int

    @property
    def logits(self) -> Tensor | None:
        return None if self.generation is None else self.generation.logits


class Runner:
    """Runs questions in batches under several variants; `results` decides what is still to be asked."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        results: Results,
        batch_size: int,
        trace: bool = False,
        cancel: Event | None = None,
    ):
        """
        Args:
            lanes: the reference first.
            batch_size: questions of one task and as many media that share a pass.
            trace: note which tokens survive in the decoder; questions are then asked one at a time.
            cancel: set it to stop; the batch that is being asked is then lost.
        """
        self.lanes, self.results = lanes, results
        self.batch_size, self.trace = (1 if trace else batch_size), trace
        self.cancel = cancel or Event()
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
        # asked again where its answer is there: its logits are not
        first = self.lanes[0]
        reference = dict(zip(wanted, self._ask(first, [batch[i] for i in wanted]), strict=True))
        for lane in self.lanes:
            name = lane.variant.name
            indices = missing[name]
            if lane is first:
                answers = [reference[i] for i in indices]
            else:
                answers = self._ask(lane, [batch[i] for i in indices])
            self.results.add(
                (keys[i][name], self._record(lane, batch[i], answer, reference[i], peaks.get((name, i))))
                for i, answer in zip(indices, answers, strict=True)
            )

    def _warm_up(self, lane: Lane, sample: EvalSample) -> int | None:
        """Ask the first question of each kind more often than it counts: the peak memory of one alone.

        A first pass is slow and allocates what stays, and one whose memory is watched is slow too: nobody's
        time counts either.
        """
        kind = (lane.variant.name, *_kind(sample))
        if kind in self._warm:
            return None
        if not any(name == lane.variant.name for name, *_ in self._warm):
            self._ask(lane, [sample])
        with PeakMeter(lane.session.family.device) as meter:
            (answer,) = self._ask(lane, [sample])
        if answer.error is not None:
            return None
        self._warm.add(kind)
        return meter.peak_bytes

    def _ask(self, lane: Lane, samples: list[EvalSample]) -> list[_Answer]:
        """The answers to a batch; where it fails, each question is asked alone.

        Raises:
            Cancelled: `cancel` is set.
        """
        if not samples:
            return []
        requests = [Request(s.prompt, s.images, s.videos, id=s.id) for s in map(lane.sample, samples)]
        error = None
        started = time.perf_counter()
        try:
            generations: Sequence[Generation | None] = self._generations(lane.session, requests)
        except Cancelled:
            raise
        except Exception as caught:
            error, generations = caught, [None] * len(samples)
        if self.cancel.is_set():
            raise Cancelled("an evaluation was cancelled amid a batch")
        seconds = (time.perf_counter() - started) / len(samples)
        if error is not None and len(samples) > 1:
            return [self._ask(lane, [sample])[0] for sample in samples]
        return [_Answer(g, error, seconds, len(samples)) for g in generations]

    def _generations(self, session: Session, requests: list[Request]) -> list[Generation]:
        if not self.trace:
            return session.ask_batch(requests, logits=True, cancel=self.cancel)
        (request,) = requests
        media = request.images, request.videos
        options = {"id": request.id, "trace": True, "logits": True, "cancel": self.cancel}
        return [session.ask(request.prompt, *media, **options)]

    def _record(
        self, lane: Lane, sample: EvalSample, answer: _Answer, reference: _Answer, peak_bytes: int | None
    ) -> dict[str, Any]:
        """An answer's record as `illava run` writes it, and what an evaluation adds."""
        generation, name = answer.generation, lane.variant.name
        about = {"task": sample.task, "variant": name}
        if generation is None:
            config = lane.variant.config
            model = str(config.model.id)
            return about | error_record(answer.error, id=sample.id, model=model, preset=config.preset)
        kl = None
        if lane is not self.lanes[0] and reference.logits is not None:
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
