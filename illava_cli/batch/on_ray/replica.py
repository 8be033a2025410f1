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
from illava_cli.batch.reader import Collected
from illava_cli.config import Config
from illava_cli.errors import MediaError, ModelError, WorkerError

TICK_S = 0.1
TRIES = 2  # of a block, each with the death of a replica
LOADS = 3  # that fail one after another, for each replica

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
        loads: failed loads of all replicas, one after another, after which none is tried any more.
    """

    config: Config
    batch_size: int | None
    readers: int
    timeout: float | None
    folder: str
    threads: int
    loads: int


class Replica:
    """Called by Ray Data with a table of blocks, yields tables of messages."""

    def __init__(self, setup: Setup, ledger: Any):
        """Load the model. An error waits for the first block: from here Ray passes on a traceback only."""
        self._ledger = ledger
        self._stop = threading.Event()
        self._notes: list[str] = []
        self._warnings: list[str] = []
        self._failure: Exception | None = None
        try:
            self._worker = self._load(setup)
        except Exception as error:
            self._failure = _portable(error)

    def _load(self, setup: Setup) -> Any:
        if ray.get(self._ledger.loading.remote()) > setup.loads:
            raise ModelError(
                "the replicas die while they load the model: give them more memory, or take fewer --replicas"
            )
        # not at the top: the program itself reads this file, and needs no torch
        import torch

        from illava_cli.batch.worker import Options, Worker
        from illava_cli.engine.session import Session

        try:
            os.chdir(setup.folder)
        except OSError:
            raise MediaError(
                f"{ray.util.get_node_ip_address()} has no folder {setup.folder}: replicas read the files "
                "themselves; use a file system that all nodes share"
            ) from None
        logger = logging.getLogger("illava")
        logger.handlers, logger.propagate = [Collected(self._warnings)], False
        torch.set_num_threads(setup.threads)
        session = Session(setup.config, on_note=self._notes.append)
        options = Options(setup.batch_size, setup.readers, setup.timeout)
        worker = Worker(session, options, self._stop)
        ray.get(self._ledger.loaded.remote())
        threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()
        return worker

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
        for text in [*self._notes, *(f"warning: {text}" for text in self._warnings)]:
            yield "note", text
        self._notes.clear()
        self._warnings.clear()
        ray.get(self._ledger.end.remote(number))

    def _records(self, items: Sequence[Item], trial: int) -> Iterator[dict[str, Any]]:
        if trial <= TRIES:
            yield from self._worker.answer(items)
        elif len(items) == 1:
            error = WorkerError(
                f"the replica that answered it died {TRIES} times: is it too large for its memory?"
            )
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
