"""How a batch is getting on, on stderr: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from illava_cli.cli.messages import Messages

# off a terminal: a line after a tenth of the items, but not more often than this, nor more rarely
AT_LEAST_S, AT_MOST_S = 5.0, 30.0


class Tally:
    """Counts over the records of a run."""

    def __init__(self, total: int):
        self.total = total
        self.done = self.failed = 0
        self._started = time.monotonic()
        self._whole = self._kept = 0.0

    def add(self, record: dict[str, Any]) -> None:
        """Count a record."""
        self.done += 1
        self.failed += record["status"] == "error"
        visual = record["usage"]["visual"]
        if visual["vision_kept"]:
            # what the decoder would have been given without merging in the tower
            self._whole += visual["llm_in"] * visual["patches"] / visual["vision_kept"]
            self._kept += visual["llm_kept"]

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.done / max(1e-9, time.monotonic() - self._started)

    @property
    def saved(self) -> str:
        """The share of visual tokens that the decoder's last layers were spared."""
        return f"{1 - self._kept / self._whole:.0%} of visual tokens saved" if self._whole else ""

    @property
    def left(self) -> str:
        """Time that the rest will take, `1:02:03`."""
        seconds = round((self.total - self.done) / self.rate) if self.done else 0
        hours, minutes = divmod(seconds // 60, 60)
        return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"

    @property
    def errors(self) -> str:
        """`2 errors`, or nothing."""
        return "" if not self.failed else f"{self.failed} error{'' if self.failed == 1 else 's'}"

    def line(self, *, left: bool = True) -> str:
        """All of it in one line."""
        parts = [f"{self.done} of {self.total}", f"{self.rate:.3g}/s", f"{self.left} left" if left else ""]
        return " | ".join(filter(None, [*parts, self.saved, self.errors]))


@contextmanager
def progress(total: int, messages: Messages, *, bar: bool = True) -> Iterator[Tally]:
    """A tally that shows itself as it grows.

    Args:
        bar: False where the terminal shows the records, with which a bar would share its lines.
    """
    if messages.quiet or sys.stderr is None:
        yield Tally(total)
    elif bar and sys.stderr.isatty():
        with _bar(total) as tally:
            yield tally
    else:
        yield _Lines(total, messages)


class _Lines(Tally):
    """Says a line now and then."""

    def __init__(self, total: int, messages: Messages):
        super().__init__(total)
        self._messages = messages
        self._said_at, self._said = time.monotonic(), 0

    def add(self, record: dict[str, Any]) -> None:
        super().add(record)
        quiet_s = time.monotonic() - self._said_at
        tenth = self.done * 10 // self.total > self._said * 10 // self.total
        if self.done < self.total and quiet_s > (AT_LEAST_S if tenth else AT_MOST_S):
            self._said_at, self._said = time.monotonic(), self.done
            self._messages.say(f"illava: {self.line()}")


@contextmanager
def _bar(total: int) -> Iterator[Tally]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    # notes that come meanwhile go above the bar
    columns = (BarColumn(bar_width=20), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(f"0 of {total}", total=total)

        class Bar(Tally):
            def add(self, record: dict[str, Any]) -> None:
                super().add(record)
                bar.update(task, completed=self.done, description=self.line())

        yield Bar(total)
