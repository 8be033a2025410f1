"""A worker without a model: a server answers its items, several at a time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from illava_cli.batch.item import Item
from illava_cli.batch.records import asked, failure
from illava_cli.client.answer import generation_of
from illava_cli.client.body import messages
from illava_cli.client.calls import Client
from illava_cli.client.failures import UnknownField, Unusable
from illava_cli.client.settings import Remote, fields
from illava_cli.errors import Cancelled, UsageError


def check(items: Sequence[Item], config: Remote) -> None:
    """Refuse items with settings that cannot be sent, before any is asked.

    Raises:
        UsageError: says where.
    """
    for item in items:
        try:
            fields(item.config(config) if item.settings else config)
        except UsageError as error:
            where = "" if str(error).startswith(item.where) else f"{item.where}: "
            raise UsageError(f"{where}{error}") from None


class RemoteWorker:
    """Asks a server, in as many threads as it has questions at once."""

    def __init__(self, config: Remote, client: Client, concurrency: int, stop: threading.Event):
        """
        Args:
            stop: set it to end after the questions that are being answered.
        """
        self.config, self.client = config, client
        self.concurrency, self.stop = concurrency, stop

    def answer(self, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
        """The items' records, as they come; each item has one, unless `stop` was set.

        Raises:
            Unusable, UnknownField: the server has an answer to none of them.
        """
        waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
        for item in items:
            waiting.put(item)
        done: queue.SimpleQueue[dict[str, Any] | BaseException | None] = queue.SimpleQueue()
        threads = [
            # daemons: whoever leaves at once does not wait for them
            threading.Thread(target=self._work, args=(waiting, done), name=f"illava-ask-{n}", daemon=True)
            for n in range(min(self.concurrency, len(items)))
        ]
        for thread in threads:
            thread.start()
        error, working = None, len(threads)
        while working:
            found = done.get()
            if found is None:
                working -= 1
            elif isinstance(found, BaseException):
                error = error or found
                self.stop.set()
            else:
                yield found
        if error is not None:
            raise error

    def _work(self, waiting: queue.SimpleQueue, done: queue.SimpleQueue) -> None:
        try:
            while not self.stop.is_set():
                try:
                    record = self._record(waiting.get_nowait())
                except queue.Empty:
                    break
                if record is not None:
                    done.put(record)
        except BaseException as error:
            done.put(error)
        finally:
            done.put(None)

    def _record(self, item: Item) -> dict[str, Any] | None:
        """An item's record; None where the run was stopped before there was one."""
        try:
            return self._answered(item)
        except Cancelled:
            return None
        except Unusable:
            raise
        except Exception as error:
            if isinstance(error, UnknownField) and error.field in fields(self.config):
                raise  # it is the run's setting, and the same for all
            return failure(item, self.config, error)

    def _answered(self, item: Item) -> dict[str, Any]:
        config, media = item.config(self.config), item.sources
        limit, system = config.media.media_timeout, config.generation.system
        body = fields(config) | {"messages": messages(item.prompt, *media, system, limit)}
        started = time.monotonic()

        def read(answer: Any) -> dict[str, Any]:
            seconds = time.monotonic() - started
            named = item.images, item.videos
            return generation_of(answer, config, *named, seconds=seconds, id=item.id).record()

        return self.client.complete(body, read) | asked(item)
