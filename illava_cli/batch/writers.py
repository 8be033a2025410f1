"""What a run writes beside its journal: CSV, OpenAI's lines, a text file each, or lines on stdout.

All are made from the journal's records and can be made again: a run that goes on first writes them anew
from what the journal holds, so that a kill between the two leaves nothing out.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from illava_cli.batch import openai
from illava_cli.batch.item import Item
from illava_cli.engine.appending import AppendedFile, encoded
from illava_cli.errors import OutputError, UsageError

Record = dict[str, Any]

COLUMNS: dict[str, Callable[[Record], Any]] = {
    "id": lambda r: r["id"],
    "status": lambda r: r["status"],
    "prompt": lambda r: r["prompt"],
    "text": lambda r: r["text"],
    "finish_reason": lambda r: r["finish_reason"],
    "error_type": lambda r: (r["error"] or {}).get("type"),
    "error_message": lambda r: (r["error"] or {}).get("message"),
    "media": lambda r: ";".join(medium["source"] for medium in r["media"]),
    "model": lambda r: r["model"],
    "preset": lambda r: r["preset"],
    "seed": lambda r: r["seed"],
    "config_hash": lambda r: r["config_hash"],
    "prompt_tokens": lambda r: r["usage"]["prompt_tokens"],
    "completion_tokens": lambda r: r["usage"]["completion_tokens"],
    "patches": lambda r: r["usage"]["visual"]["patches"],
    "llm_kept": lambda r: r["usage"]["visual"]["llm_kept"],
}
LONGEST = 200  # bytes of a file's name; most file systems take 255


def _row(cells: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", errors="backslashreplace")


def csv_line(record: Record) -> bytes:
    """A record as a row of CSV; a cell may hold line breaks, in quotes."""
    return _row(value(record) for value in COLUMNS.values())


def openai_line(record: Record) -> bytes:
    """A record as a line of OpenAI's output file."""
    return encoded(openai.to_line(record))


# format -> (first line, line of a record); JSONL is the journal itself
LINES: dict[str, tuple[bytes, Callable[[Record], bytes]]] = {
    "csv": (_row(COLUMNS), csv_line),
    "openai": (b"", openai_line),
}


class Writer(Protocol):
    """A place for records."""

    def restore(self, records: Iterable[Record]) -> None:
        """Make the place hold these records, as the run begins."""

    def add(self, record: Record) -> None:
        """Write a record.

        Raises:
            OutputError: it cannot be written.
        """

    def close(self) -> None:
        """No more records come."""


class LineWriter:
    """A file with a line for each record."""

    def __init__(self, path: Path, format: str):
        """
        Raises:
            OutputError: it cannot be written, or another process writes to it.
        """
        self.head, self.line = LINES[format]
        self.file = AppendedFile(path)

    def restore(self, records: Iterable[Record]) -> None:
        self.file.replace([self.head, *map(self.line, records)] if self.head else map(self.line, records))

    def add(self, record: Record) -> None:
        self.file.write(self.line(record))

    def close(self) -> None:
        self.file.close(undo=True)


class FolderWriter:
    """A folder with a text file for each answer, `ID.txt`; failures have none."""

    def __init__(self, folder: Path, write: Callable[[Path, str], None], forgotten: Iterable[Item] = ()):
        """
        Args:
            write: writes a text to a path, whole or not at all.
            forgotten: items whose texts go when the run begins.
        """
        self.folder, self.write, self.forgotten = folder, write, forgotten

    def refuse_others(self, items: Iterable[Item]) -> None:
        """Refuse to write over texts that are there: these items have no record yet.

        Raises:
            UsageError: names one.
        """
        for item in items:
            if self.path(item.id).exists():
                raise UsageError(
                    f"{self.path(item.id)} is there, and no record of it: move it, or give --overwrite"
                )

    def check(self, items: Iterable[Item]) -> None:
        """Refuse items whose answers would have the same file.

        Raises:
            UsageError: names two of them.
        """
        seen: dict[Path, str] = {}
        for item in items:
            other = seen.setdefault(self.path(item.id), item.id)
            if other != item.id:
                raise UsageError(
                    f"the answers of {other!r} and {item.id!r} would have the same file: change an id"
                )

    def path(self, id: str) -> Path:
        """Where the answer of an item goes: folders in its id are folders here, never above this one."""
        parts = [part for part in id.split("/") if part not in ("", ".")] or ["_"]
        *folders, name = (_shortened("__" if part == ".." else part) for part in parts)
        return self.folder.joinpath(*folders, f"{name}.txt")

    def restore(self, records: Iterable[Record]) -> None:
        for item in self.forgotten:
            self._forget(self.path(item.id))
        for record in records:
            if record["status"] == "ok" and not self.path(record["id"]).exists():
                self.add(record)

    def add(self, record: Record) -> None:
        if record["status"] != "ok":
            return
        path = self.path(record["id"])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        self.write(path, record["text"] + "\n")

    def _forget(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot remove {path}: {error.strerror}") from error

    def close(self) -> None:
        pass


class StreamWriter:
    """Records as JSON lines to a function, for pipes."""

    def __init__(self, emit: Callable[[str], None]):
        self.emit = emit

    def restore(self, records: Iterable[Record]) -> None:
        pass  # what went down a pipe is gone

    def add(self, record: Record) -> None:
        self.emit(encoded(record).decode())

    def close(self) -> None:
        pass


def _shortened(name: str) -> str:
    """A name that file systems take: a long one ends with a hash of the whole."""
    name = name.replace("\0", "_")
    try:
        data = os.fsencode(name)
    except UnicodeEncodeError:  # half a character, which JSON can hold
        data = name.encode(errors="backslashreplace")
        name = data.decode()
    if len(data) <= LONGEST:
        return name
    digest = hashlib.sha256(data).hexdigest()[:12]
    return data[: LONGEST - 13].decode(errors="ignore") + "-" + digest
