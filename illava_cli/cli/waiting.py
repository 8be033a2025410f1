"""A bar on a terminal while a long clip is read and goes through the tower; elsewhere nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from illava_cli.cli.messages import Messages

if TYPE_CHECKING:
    from illava_cli.engine.request import Progress

MANY = 64  # fewer frames are soon there
DOING = {"read": "reading frames", "encode": "through the vision tower"}


@contextmanager
def waiting(messages: Messages) -> Iterator[Progress | None]:
    """The `progress` of a question; None where nobody would see it."""
    if messages.quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    bar = _Bar()
    try:
        yield bar.show
    finally:
        bar.close()


class _Bar:
    """A bar for each stage of a long clip; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bar: Any = None
        self._long = self._closed = False

    def show(self, stage: str, done: int, total: int) -> None:
        """So much of a stage is done."""
        with self._lock:
            self._long |= total > MANY  # the tower may take many frames as few segments
            if self._closed or not self._long:
                return
            if done < total:
                self._draw(f"{DOING[stage]}: {done} of {total}", done, total)
            else:
                self._end()

    def close(self) -> None:
        """Nothing is shown any more, whatever a thread that is left behind says."""
        with self._lock:
            self._closed = True
            self._end()

    def _draw(self, text: str, done: int, total: int) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = BarColumn(bar_width=20), TextColumn("{task.description}", markup=False)
            # notes that come meanwhile go above the bar
            self._bar = Progress(
                *columns, console=Console(stderr=True), transient=True, redirect_stdout=False
            )
            self._bar.add_task(text)
            self._bar.start()
        (task,) = self._bar.task_ids
        self._bar.update(task, completed=done, total=total, description=text)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
