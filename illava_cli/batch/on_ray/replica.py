"""A replica: an actor of Ray Data with a loaded model, which turns blocks of items into messages.

Ray numbers what a block yields. When a replica dies, the block runs again elsewhere and Ray passes over as
many messages as had arrived: so records come before everything else, and the program asks again for those
that it has not seen.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow
import ray

from illava_cli.batch.item import Item
from illava_cli.config.settings import Config
from illava_cli.errors import IllavaError, ModelError, WorkerError
from illava_cli.readers.job import Collected

TICK_S = 0.1
TRIES = 2
LOADS = 3  # for each replica

DYING = "the replicas die while they load the model: give them more memory, or take fewer --replicas"

# kind ("record", "note", "failure") and what it carries (the record, a text, an exception)
Message = tuple[str, Any]


@dataclass(frozen=True)
class Setup:
    """What a replica is made from.

    Args:
        config: of the model and its answers.
        batch_size, readers, timeout: as in `worker.Options`.
        folder: the program's working directory, which relative names are relative to.
        threads: of torch.
        loads: deaths while loading, of all replicas one after another, after which none loads any more.
        tries: deaths over a block, after which its items are asked one by one, and over one of these.
    """

    config: Config
    batch_size: int | None
    readers: int
    timeout: float | None
    folder: str
    threads: int
    loads: int
    tries: int = TRIES


class Replica:
    """Called by Ray Data with a table of blocks, yields tables of messages."""

    def __init__(self, setup: Setup, ledger: Any):
        """Load the model. An error waits for the first block: from here Ray passes on a traceback only."""
        self._setup, self._ledger = setup, ledger
        self._stop = threading.Event()
        self._notes: list[str] = []
        self._warnings: list[str] = []
        self._failure: Exception | None = None
        try:
            if ray.get(ledger.loading.remote()) > setup.loads:
                raise ModelError(DYING)
            self._worker = self._load(setup)
            ray.get(ledger.loaded.remote())
            threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()
        except Exception as error:
            self._failure = _portable(error)

    def _load(self, setup: Setup) -> Any:
        """A `worker.Worker`."""
        # not at the top: the program itself reads this file, and needs no torch
        import torch

        from illava_cli.batch.worker import Options, Worker
        from illava_cli.engine.opening import load

        try:
            os.chdir(setup.folder)
        except OSError:
            raise IllavaError(
                f"{ray.util.get_node_ip_address()} has no folder {setup.folder}: replicas read the files "
                "themselves; use a file system that all nodes share"
            ) from None
        logger = logging.getLogger("illava")
        logger.handlers, logger.propagate = [Collected(self._warnings)], False
        torch.set_num_threads(setup.threads)
        session = load(config=setup.config, on_note=self._notes.append)
        options = Options(setup.batch_size, setup.readers, setup.timeout)
        return Worker(session, options, self._stop)

    def _watch(self, parent: int) -> None:
        ray.get(self._ledger.stopped.remote())
        self._stop.set()
        # where the cluster ends with the run, Ray would let the model take up memory for seconds more
        while os.getppid() == parent:
            time.sleep(TICK_S)
        os._exit(0)

    def __call__(self, table: pyarrow.Table) -> Iterator[pyarrow.Table]:
        for row in table.to_pylist():
            for message in self._messages(row["number"], pickle.loads(row["items"])):
                yield pyarrow.table({"message": [pickle.dumps(message)]})

    def _messages(self, number: int, items: Sequence[Item]) -> Iterator[Message]:
        if self._failure is not None:
            yield "failure", self._failure
            return
        trial = ray.get(self._ledger.begin.remote(number))
        if not trial:
            return
        try:
            for record in self._records(items, trial):
                yield "record", record
        except Exception as error:
            yield "failure", _portable(error)
            return
        for text in [*self._notes, *(f"warning: {text}" for text in self._warnings)]:
            yield "note", text
        self._notes.clear()
        self._warnings.clear()
        ray.get(self._ledger.end.remote(number))

    def _records(self, items: Sequence[Item], trial: int) -> Iterator[dict[str, Any]]:
        if trial <= self._setup.tries:
            yield from self._worker.answer(items)
        elif len(items) == 1:
            error = WorkerError(f"replicas died over it ({trial - 1} in a row): did they run out of memory?")
            yield self._worker.failure(items[0], error)
        # else one of many kills replicas; each is asked alone


def _portable(error: Exception) -> Exception:
    """The error as it can be sent, with the traceback that is lost on the way."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = ModelError(f"{type(error).__name__}: {error}")
    error.add_note(f"on {ray.util.get_node_ip_address()}:\n{traceback.format_exc()}")
    return error
