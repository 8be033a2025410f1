"""A worker: a loaded model that turns items into records. It writes nothing: that is its caller's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from illava_cli.batch.item import Item
from illava_cli.batch.reading import Group, ReadAhead, by_media
from illava_cli.batch.records import asked, failure
from illava_cli.config.options import MediaOptions
from illava_cli.engine.answer import Answer
from illava_cli.engine.features import FeatureCache
from illava_cli.engine.generation import generation_of
from illava_cli.engine.request import Prepared, Request, Turn
from illava_cli.engine.scheduler import Scheduler
from illava_cli.engine.session import Session
from illava_cli.errors import Timeout
from illava_cli.readers.job import Job, Media, Size

AUTO_CPU, AUTO_GPU = 8, 32  # where `auto` begins
PATIENCE_S = 0.1  # for each question that may yet share a prefill
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
    """A group whose media are prepared: its turns, each with its item, and records of those that failed."""

    media: Media
    turns: list[tuple[Item, Turn]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)


class Worker:
    """Answers items, so many at a time, reading ahead meanwhile."""

    def __init__(self, session: Session, options: Options, stop: threading.Event):
        """
        Args:
            stop: set it to end after the questions that are being answered.
        """
        kept = min(session.features.max_bytes, KEPT_BYTES)
        self.session = replace(session, features=FeatureCache(kept))
        self.options, self.stop = options, stop
        auto = AUTO_CPU if session.family.device.type == "cpu" else AUTO_GPU
        self.scheduler = Scheduler(session.runner, options.batch_size or auto, on_note=logger.warning)
        self.read_s = self.waited_s = 0.0
        self._sessions: dict[str, Session] = {}
        self._asked: dict[Turn, tuple[Item, Media]] = {}  # what is waiting or being answered
        self._late: list[tuple[Item, Turn]] = []  # whose time its neighbours may have taken

    def answer(self, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
        """The items' records, as they come; each item has one, unless `stop` was set."""
        scheduler = self.scheduler
        with (
            self.session.runner.alone(),
            ReadAhead(
                by_media(items),
                self._job,
                self._frame_size,
                self._prepare,
                processes=self.options.readers,
                timeout=self.options.timeout,
            ) as ahead,
        ):
            while not self.stop.is_set() and not (ahead.exhausted and scheduler.idle):
                # what is there comes in; where no row runs, a fuller batch is worth a moment
                while scheduler.waiting < scheduler.rows:
                    wait = None if scheduler.idle else 0.0 if scheduler.answers else PATIENCE_S
                    if (ready := ahead.take(self.stop, wait=wait)) is None:
                        break
                    yield from ready.failures
                    self._add(ready, ahead)
                for turn, answers, error in scheduler.advance():
                    yield from self._records(turn, answers, error, ahead)
                self.read_s, self.waited_s = ahead.read_s, ahead.waited_s
            for turn in scheduler.dismiss():
                self._forget(turn, ahead)
            for turn, answers, error in scheduler.run():
                yield from self._records(turn, answers, error, ahead)
            yield from self._alone(ahead)

    def _alone(self, ahead: ReadAhead) -> Iterator[dict[str, Any]]:
        """Questions that were late once more, with nobody beside them."""
        late, self._late = self._late, []
        for item, turn in late:
            if self.stop.is_set():
                return
            again = self._session(item).turn(turn.prepared, timeout=self.options.timeout)
            self._asked[again] = item, Media()
            self.scheduler.add(again)
            for turn, answers, error in self.scheduler.run():
                yield from self._records(turn, answers, error, ahead, last=True)

    def _add(self, ready: _Ready, ahead: ReadAhead) -> None:
        for item, turn in ready.turns:
            self._asked[turn] = item, ready.media
            self.scheduler.add(turn)
        if not ready.turns:
            ahead.release(ready.media)

    def _forget(self, turn: Turn, ahead: ReadAhead) -> Item:
        """A turn that is done with; the memory of its media goes back where nobody else waits with them."""
        item, media = self._asked.pop(turn)
        if all(other is not media for _, other in self._asked.values()):
            ahead.release(media)
        return item

    # --- before the pass ----------------------------------------------------------------------

    def _job(self, group: Group) -> Job:
        images, videos = group[0].sources
        return Job(images, videos, group[0].config(self.session.config).media)

    def _frame_size(self, size: Size, frames: int, options: MediaOptions) -> Size:
        """Height and width at which a clip's frames are read; a guide chooses among all their pixels."""
        guided = self.session.guide is not None
        return size if guided else self.session.family.frame_size(size, frames, options)

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
                own = replace(prepared, request=Request(item.prompt, item.images, item.videos, id=item.id))
                ready.turns.append((item, session.turn(own, timeout=self.options.timeout)))
            except Exception as error:
                ready.failures.append(self.failure(item, error))
        media.images, media.videos = [], []  # pictures as they were read are not needed any more
        return ready

    def _session(self, item: Item) -> Session:
        config = item.config(self.session.config)
        return self._sessions.setdefault(config.hash(), self.session.asking(config))

    # --- records ------------------------------------------------------------------------------

    def _records(
        self,
        turn: Turn,
        answers: list[Answer],
        error: Exception | None,
        ahead: ReadAhead,
        last: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """The record of a turn that ended; none of one that was late, unless this was the `last` try."""
        item = self._forget(turn, ahead)
        if error is None and answers[0].cancelled:
            if not last:
                self._late.append((item, turn))
                return
            seconds = self.options.timeout
            error = Timeout(f"no answer within {seconds:g} s (--timeout): allow fewer --max-tokens")
        if error is not None:
            yield self.failure(item, error)
        else:
            family, load_seconds = self.session.family, self.session.load_seconds
            yield generation_of(answers[0], family, load_seconds).record() | asked(item)

    def failure(self, item: Item, error: Exception) -> dict[str, Any]:
        """The record of an item that has no answer."""
        return failure(item, self.session.config, error)
