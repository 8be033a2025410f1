"""The program's side of a run on Ray: items out in blocks, records in as they come."""

from __future__ import annotations

import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, from_items

from illava_cli.batch.item import Item
from illava_cli.batch.on_ray.ledger import Ledger
from illava_cli.batch.on_ray.replica import Message, Replica, Setup
from illava_cli.batch.on_ray.shares import Share
from illava_cli.batch.reading import by_media
from illava_cli.errors import IllavaError, UsageError
from illava_cli.media import name_of
from illava_cli.readers.process import is_ours

Record = dict[str, Any]

TICK_S = 0.1
GRACE_S = 60.0  # that what is in flight has when the run is to stop
QUIET_S = 2.0  # within which the last records of what was in flight have arrived
AHEAD = 2  # blocks at a replica: the one that it answers, and the next
PER_REPLICA = 4  # blocks, about, that the last ones end at the same time
LEAST, MOST_CPU, MOST_GPU = 8, 64, 256  # questions in a block: several passes of the model


class Pool:
    """Replicas in the cluster that the program is connected to; `answer` is a worker's."""

    def __init__(
        self,
        setup: Setup,
        share: Share,
        stop: threading.Event,
        on_note: Callable[[str], None] = lambda text: None,
    ):
        """
        Args:
            stop: set it to end after what is in flight, or `GRACE_S`.
            on_note: takes one-line messages for a person.
        """
        self.setup, self.share, self.stop, self.on_note = setup, share, stop, on_note

    def answer(self, items: Sequence[Item]) -> Iterator[Record]:
        """The items' records, as they come; each item has one, unless `stop` was set.

        Raises:
            IllavaError: a replica cannot load the model, or Ray gave up.
        """
        left = {item.id: item for item in items}
        most = MOST_GPU if self.share.gpus else MOST_CPU
        yield from self._ask(blocks(items, self.share.replicas, most), left)
        # what died with a replica, one by one: so the one that kills it is found
        if left and not self.stop.is_set():
            yield from self._ask([[item] for item in left.values()], left)
        if left and not self.stop.is_set():
            raise IllavaError(f"Ray lost {len(left)} items on the way; the same command asks them again")

    def _ask(self, blocks: Sequence[Sequence[Item]], left: dict[str, Item]) -> Iterator[Record]:
        """Records of items that are `left`, and then are not any more."""
        counts = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
        ledger = ray.remote(**counts)(Ledger).remote()
        results: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        # a daemon: where the run stops, what is still to be asked is not waited for
        threading.Thread(target=_receive, args=(self._dataset(blocks, ledger), results), daemon=True).start()
        for kind, value in self._until_stopped(results, ledger):
            if kind == "failure":
                raise value
            if kind == "note":
                self.on_note(value)
            elif left.pop(value["id"], None):
                yield value

    def _dataset(self, blocks: Sequence[Sequence[Item]], ledger: Any) -> Dataset:
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = 1  # bytes: each record comes alone, and at once
        context.max_errored_blocks = -1  # what is lost with them is seen to be missing
        rows = [{"number": number, "items": pickle.dumps(block)} for number, block in enumerate(blocks)]
        return from_items(rows, override_num_blocks=len(rows)).map_batches(
            Replica,
            fn_constructor_args=(self.setup, ledger),
            compute=ActorPoolStrategy(
                size=min(self.share.replicas, len(rows)), max_tasks_in_flight_per_actor=AHEAD
            ),
            num_cpus=self.share.cpus,
            num_gpus=self.share.gpus or None,
            batch_size=1,
            batch_format="pyarrow",
        )

    def _until_stopped(self, results: queue.SimpleQueue[Message | None], ledger: Any) -> Iterator[Message]:
        """What arrives, to the end, or until nothing is in flight after a stop."""
        idle, stopped, heard = None, 0.0, 0.0
        while True:
            try:
                message = results.get(timeout=TICK_S)
            except queue.Empty:
                now = time.monotonic()
                if not self.stop.is_set():
                    continue
                if idle is None:
                    idle, stopped, heard = ledger.stop.remote(), now, now
                done, _ = ray.wait([idle], timeout=0)
                if now > stopped + GRACE_S or (done and now > heard + QUIET_S):
                    return
                continue
            if message is None:
                return
            heard = time.monotonic()
            yield message


def blocks(items: Sequence[Item], replicas: int, most: int) -> list[list[Item]]:
    """The items in blocks of about `most`, or fewer where there are few: replicas are evenly busy.

    Those about the same media stay together.
    """
    fair = -(-len(items) // replicas)
    size = min(most, max(fair // PER_REPLICA, min(fair, LEAST)))
    made: list[list[Item]] = []
    for group in by_media(items):
        if not made or len(made[-1]) >= size:
            made.append([])
        made[-1] += group
    return made


def refuse_pipes(items: Sequence[Item]) -> None:
    """Refuse media that only this process can read.

    Raises:
        UsageError: names one.
    """
    for item in items:
        images, videos = item.sources
        for source in [*images, *videos]:
            if is_ours(source):
                raise UsageError(
                    f"{name_of(source)}: --workers ray takes files and URLs that other processes can read"
                )


def _receive(dataset: Dataset, results: queue.SimpleQueue[Message | None]) -> None:
    try:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for data in table["message"].to_pylist():
                results.put(pickle.loads(data))
        results.put(None)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        failure = IllavaError(f"Ray ended the run: {reason}")
        failure.__cause__ = error
        results.put(("failure", failure))
