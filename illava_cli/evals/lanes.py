"""Who answers for a variant: a session on a loaded model, or a server elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Any, ClassVar

from torch import Tensor

from illava_cli.client.answer import generation_of
from illava_cli.client.body import messages
from illava_cli.client.calls import Client
from illava_cli.client.failures import UnknownField, Unusable
from illava_cli.client.settings import fields
from illava_cli.engine.memory import PeakMeter
from illava_cli.engine.record import Generation
from illava_cli.engine.session import Request, Session
from illava_cli.errors import Cancelled
from illava_cli.evals.results import Key, asked, without_media
from illava_cli.evals.sample import EvalSample
from illava_cli.evals.variants import Variant


@dataclass(frozen=True)
class Answer:
    """An answer, or why there is none; seconds are this question's part of its batch's."""

    generation: Generation | None
    error: Exception | None
    seconds: float
    batch_size: int

    @property
    def logits(self) -> Tensor | None:
        return None if self.generation is None else self.generation.logits


@dataclass(frozen=True)
class AnyLane(ABC):
    """A variant, and what is asked under it."""

    variant: Variant
    has_logits: ClassVar[bool]  # of the first token, which others' are held against

    def sample(self, sample: EvalSample) -> EvalSample:
        """What this variant is asked."""
        return without_media(sample) if self.variant.blind else sample

    def key(self, sample: EvalSample) -> Key:
        """Where its answer is kept."""
        return sample.id, asked(self.sample(sample)), self.variant.config.hash()

    @abstractmethod
    def ask(self, samples: Sequence[EvalSample], cancel: Event, trace: bool = False) -> list[Answer]:
        """The answers to a batch, one for each question.

        Raises:
            Cancelled: `cancel` is set.
        """

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What a report says of it beside its configuration."""


@dataclass(frozen=True)
class Lane(AnyLane):
    """A variant and the session that answers for it."""

    session: Session
    has_logits = True

    def about(self) -> dict[str, Any]:
        return {"reduction": self.session.reduction.model_dump(mode="json", exclude_none=True)}

    def meter(self) -> PeakMeter:
        """Of the memory that it takes."""
        return PeakMeter(self.session.family.device)

    def ask(self, samples: Sequence[EvalSample], cancel: Event, trace: bool = False) -> list[Answer]:
        """In one pass; where it fails, each question alone."""
        if not samples:
            return []
        requests = [Request(s.prompt, s.images, s.videos, id=s.id) for s in map(self.sample, samples)]
        error = None
        started = time.perf_counter()
        try:
            generations: Sequence[Generation | None] = self._generations(requests, cancel, trace)
        except Cancelled:
            raise
        except Exception as caught:
            error, generations = caught, [None] * len(samples)
        if cancel.is_set():
            raise Cancelled("an evaluation was cancelled amid a batch")
        seconds = (time.perf_counter() - started) / len(samples)
        if error is not None and len(samples) > 1:
            return [self.ask([sample], cancel, trace)[0] for sample in samples]
        return [Answer(g, error, seconds, len(samples)) for g in generations]

    def _generations(self, requests: list[Request], cancel: Event, trace: bool) -> list[Generation]:
        if not trace:
            return self.session.ask_batch(requests, logits=True, cancel=cancel)
        (request,) = requests
        media = request.images, request.videos
        options = {"id": request.id, "trace": True, "logits": True, "cancel": cancel}
        return [self.session.ask(request.prompt, *media, **options)]


@dataclass(frozen=True)
class ServerLane(AnyLane):
    """A variant whose questions go to a server, as many at once as `concurrency` says."""

    client: Client
    concurrency: int
    has_logits = False

    def about(self) -> dict[str, Any]:
        sent = fields(self.variant.config)
        return {"server": self.client.server.url, "sent": sent}

    def ask(self, samples: Sequence[EvalSample], cancel: Event, trace: bool = False) -> list[Answer]:
        """Each by itself.

        Raises:
            Unusable, UnknownField: the server has an answer to none.
            Cancelled: `cancel` is set.
        """
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="illava-ask") as pool:
            return list(pool.map(lambda sample: self._answer(sample, cancel), samples))

    def _answer(self, sample: EvalSample, cancel: Event) -> Answer:
        if cancel.is_set():
            raise Cancelled("an evaluation was cancelled amid a batch")
        config, own, started = self.variant.config, self.sample(sample), time.perf_counter()
        try:
            asked = messages(own.prompt, own.images, own.videos, config.generation.system)
            body = fields(config) | {"messages": asked}

            def read(answer: Any) -> Generation:
                media = own.images, own.videos
                seconds = time.perf_counter() - started
                return generation_of(answer, config, *media, seconds=seconds, id=own.id)

            generation = self.client.complete(body, read, cancel)
        except (Cancelled, Unusable, UnknownField):
            raise
        except Exception as error:
            return Answer(None, error, time.perf_counter() - started, 1)
        return Answer(generation, None, time.perf_counter() - started, 1)
