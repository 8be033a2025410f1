"""A worker: a loaded model that turns items into records. It writes nothing: that is its caller's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from illava_cli.batch.item import Item
from illava_cli.batch.reader import Job, Media
from illava_cli.batch.reading import Group, ReadAhead, by_media
from illava_cli.batch.scheduling import Scheduler, Waiting
from illava_cli.engine.features import FeatureCache
from illava_cli.engine.record import Generation, error_record
from illava_cli.engine.request import Prepared, Request
from illava_cli.engine.session import Session
from illava_cli.errors import OutOfMemory, Timeout

AUTO_CPU, AUTO_GPU = 8, 32  # where `auto` begins
KEPT_BYTES = 64 << 20  # encoded media: the questions about one medium come one after another

logger = logging.getLogger("illava")


@dataclass(frozen=True)
class Options:
    """How a worker works.

    Args:
        batch_size: questions in one pass; None begins with what suits the device.
        readers: processes that read ahead; 0 is a thread.
        timeout: seconds for reading a question's media, and for answering it.
    """

    batch_size: int | None = None
    readers: int = 1
    timeout: float | None = None


@dataclass
class _Ready:
    """A group whose media are prepared."""

    media: Media
    waiting: list[Waiting] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)


class Worker:
    """Answers items in batches of like size, reading ahead meanwhile."""

    def __init__(self, session: Session, options: Options, stop: threading.Event):
        """
        Args:
            stop: set it to end after the batch that is being asked.
        """
        self.session, self.options, self.stop = session, options, stop
        kept = min(session.features.max_bytes, KEPT_BYTES)
        session.features = FeatureCache(kept)
        auto = AUTO_CPU if session.family.device.type == "cpu" else AUTO_GPU
        self.scheduler = Scheduler(options.batch_size or auto)
        self.read_s = self.waited_s = 0.0
        self._sessions: dict[str, Session] = {}

    def answer(self, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
        """The items' records, as they come; each item has one, unless `stop` was set."""
        with ReadAhead(
            by_media(items),
            self._job,
            self._frame_size,
            self._prepare,
            processes=self.options.readers,
            timeout=self.options.timeout,
        ) as ahead:
            while not self.stop.is_set() and not (ahead.exhausted and not len(self.scheduler)):
                ready = ahead.take(self.stop)
                if ready is not None:
                    yield from ready.failures
                    for waiting in ready.waiting:
                        self.scheduler.add(waiting)
                    self._release(ahead, ready.media)
                # memory is full, or nothing more comes: what is there has to do
                flush = ready is None or ahead.exhausted
                while not self.stop.is_set() and (batch := self.scheduler.batch(flush=flush)):
                    yield from self._answer(batch)
                    for media in {id(waiting.media): waiting.media for waiting in batch}.values():
                        self._release(ahead, media)
                    flush = ahead.exhausted
                self.read_s, self.waited_s = ahead.read_s, ahead.waited_s

    def _release(self, ahead: ReadAhead, media: Media) -> None:
        """Give back the memory of media that nobody waits with any more."""
        if not self.scheduler.holds(media):
            ahead.release(media)

    # --- before the pass ----------------------------------------------------------------------

    def _job(self, group: Group) -> Job:
        images, videos = group[0].sources
        return Job(images, videos, group[0].config(self.session.config).media)

    def _frame_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width at which a clip's frames are read; a guide chooses among all their pixels."""
        guided = self.session.guide is not None
        return (height, width) if guided else self.session.family.frame_size(height, width)

    def _prepare(self, group: Group, media: Media) -> _Ready:
        """The questions of a group, ready to be asked, and the records of those that cannot be."""
        for text in media.warnings:
            logger.warning("%s", text)
        ready = _Ready(media)
        prepared: Prepared | None = None
        for item in group:
            session = self._session(item)
            try:
                if media.error is not None:
                    raise media.error
                if prepared is None or session.guide is not None:  # who chooses by each question's words
                    prepared = session.prepare(Request(item.prompt, media.images, media.videos))
                    prepared = replace(prepared, seconds=prepared.seconds + media.seconds)
            except Exception as error:
                ready.failures.append(self.failure(item, error))
                continue
            own = replace(prepared, request=Request(item.prompt, item.images, item.videos, id=item.id))
            ready.waiting.append(Waiting(item, own, self._kind(item, session), own.tokens, media))
        media.images, media.videos = [], []  # pictures as they were read are not needed any more
        return ready

    def _session(self, item: Item) -> Session:
        config = item.config(self.session.config)
        return self._sessions.setdefault(config.hash(), self.session.asking(config))

    @staticmethod
    def _kind(item: Item, session: Session) -> tuple | None:
        """What shares a pass; a sampled answer comes from a random stream of its own."""
        if session.config.generation.temperature > 0:
            return None
        return session.config.hash(), bool(item.images), bool(item.videos)

    # --- the pass -----------------------------------------------------------------------------

    def _answer(self, batch: list[Waiting]) -> Iterator[dict[str, Any]]:
        """The records of a batch; where it fails, smaller ones are asked, at last each question alone."""
        session = self._session(batch[0].item)
        try:
            with _deadline(self.options.timeout) as late:
                answers = session.ask_batch([waiting.prepared for waiting in batch], cancel=late)
        except Exception as error:
            if len(batch) == 1:
                yield self.failure(batch[0].item, error)
                return
            parts = self._parts(batch, error)
        else:
            parts = []
            for waiting, answer in zip(batch, answers, strict=True):
                if answer.finish_reason is not None:
                    yield self._record(waiting.item, answer)
                elif len(batch) > 1:
                    parts.append([waiting])  # its neighbours may have taken the time
                else:
                    seconds = self.options.timeout
                    error = Timeout(f"no answer within {seconds:g} s (--timeout): allow fewer --max-tokens")
                    yield self.failure(waiting.item, error)
        # out here, where no exception keeps the tensors of the pass that failed
        for part in parts:
            yield from self._answer(part)

    def _parts(self, batch: list[Waiting], error: Exception) -> list[list[Waiting]]:
        """A batch that failed, as those that are tried next."""
        if not isinstance(error, OutOfMemory):
            return [[waiting] for waiting in batch]
        half = len(batch) // 2
        if self.options.batch_size is None and half < self.scheduler.batch_size:
            self.scheduler.batch_size = half
            logger.warning("out of memory with %d in a batch: going on with %d", len(batch), half)
        return [batch[:half], batch[half:]]

    # --- records ------------------------------------------------------------------------------

    def _record(self, item: Item, answer: Generation) -> dict[str, Any]:
        return answer.record() | _asked(item)

    def failure(self, item: Item, error: Exception) -> dict[str, Any]:
        """The record of an item that has no answer."""
        config = item.config(self.session.config)
        about = {"model": str(config.model.id), "preset": config.preset, "seed": config.generation.seed}
        return error_record(error, id=item.id, config_hash=config.hash(), **about) | _asked(item)


def _asked(item: Item) -> dict[str, Any]:
    """What a run's record says beside the answer."""
    return {"prompt": item.prompt, "request_hash": item.request_hash, "created": int(time.time())}


@contextmanager
def _deadline(seconds: float | None) -> Iterator[threading.Event]:
    """An event that is set when time is up."""
    late = threading.Event()
    timer = threading.Timer(seconds, late.set) if seconds else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield late
    finally:
        if timer is not None:
            timer.cancel()
