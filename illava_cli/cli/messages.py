"""What a person watching sees on stderr: notes, and a spinner while a model loads. stdout stays clean."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from illava_cli.text import harmless

FAILED = 3  # the exit code where some questions have no answer
SHOWN = 5  # failures that are told on stderr; reports and records have all


class _Notes(logging.Handler):
    """Warnings of the package (an animated image, a clip that is cut off) as notes."""

    def __init__(self, messages: Messages):
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.note(f"warning: {record.getMessage()}")


class Messages:
    """Writes to stderr unless `quiet`; each note is shown once."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self._seen: set[str] = set()
        self._spinner: Any = None
        logger = logging.getLogger("illava")
        logger.handlers = [_Notes(self)]
        logger.propagate = False

    def show(self, line: str) -> None:
        """One line that was asked for: quiet or not."""
        self._stop_spinner()
        print(harmless(line), file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """One line that nobody asked for."""
        if not self.quiet:
            self.show(line)

    def note(self, text: str) -> None:
        """A note of the engine, such as an announced download."""
        if text not in self._seen:
            self._seen.add(text)
            self.say(f"illava: {text}")

    def notes(self, texts: Iterable[str]) -> None:
        """The notes that came with an answer."""
        for text in texts:
            self.note(text)

    @contextmanager
    def loading(self, name: str) -> Iterator[None]:
        """A spinner on a terminal until the model is there or the first note comes.

        A note may announce a download, whose progress bar needs the terminal's line for itself.
        """
        if self.quiet or sys.stderr is None or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.markup import escape

        self._spinner = Console(stderr=True).status(f"loading {escape(name)}")
        self._spinner.start()
        try:
            yield
        finally:
            self._stop_spinner()

    def _stop_spinner(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
