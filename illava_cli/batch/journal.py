"""The journal of a run: one record a line in completion order, from which a run that was cut off goes on.

The first record of a file carries the run's configuration (`run`), so that another one can be refused
with what differs. Formats other than JSONL are written beside the journal, and made from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from illava_cli.batch.item import Item
from illava_cli.config.settings import Config
from illava_cli.engine.appending import AppendedFile, begins_with, difference, encoded, whole_lines
from illava_cli.errors import UsageError
from illava_cli.text import spelled

START = b'{"id": '
NEEDED = ("id", "status", "request_hash", "config_hash")


@dataclass(frozen=True)
class Entry:
    """What has to be known of a record to find it again."""

    ok: bool
    request_hash: str
    config_hash: str

    @classmethod
    def of(cls, record: dict[str, Any]) -> Entry:
        """The entry of a record."""
        return cls(record["status"] == "ok", record["request_hash"], record["config_hash"])


class Journal:
    """Records by id, on disk or, without a path, nowhere: then only this run knows them.

    As a context it is closed at the end; one that is left by an error leaves no empty file behind.
    """

    def __init__(self, path: Path | None, *, overwrite: bool = False):
        """Lock the file, mend its end, and take in what is there.

        Args:
            overwrite: what is there does not count, and goes when the run begins.

        Raises:
            OutputError: it cannot be written, or another process writes to it.
            UsageError: it is none of ours, or damaged.
        """
        self.path = path
        self.overwrite = overwrite
        self.entries: dict[str, Entry] = {}
        self._run: dict[str, Any] | None = None  # the configuration of the answers that are there
        self._config: dict[str, Any] | None = None  # of those that come
        self._file: AppendedFile | None = None
        if path is None:
            return
        if not _is_ours(path):
            raise UsageError(f"{path} is there and holds no answers of illava batch: name another file")
        self._file = AppendedFile(path)
        if overwrite:
            return
        try:
            self._read(path)
        except BaseException:
            self.close(undo=True)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        self.close(undo=kind is not None)

    def _read(self, path: Path) -> None:
        whole = 0
        for number, line in enumerate(whole_lines(path), 1):
            try:
                record = json.loads(line)
                entry = Entry.of(record)
                if not all(isinstance(record[name], str) for name in NEEDED):
                    raise ValueError
            except (ValueError, KeyError, TypeError, RecursionError):
                raise UsageError(f"{path}, line {number}: damaged; delete this line to go on") from None
            self.entries[spelled(record["id"])] = entry
            self._run = self._run or record.get("run")
            whole += len(line)
        if whole < self._file.length:
            self._file.cut(whole)

    def plan(self, items: Sequence[Item], config: Config, *, retry_failed: bool = False) -> list[Item]:
        """The items that are still to be asked. Nothing is changed yet.

        Raises:
            UsageError: the file holds answers under another configuration, or to another question of the
                same id; or an item's settings contradict the run's.
        """
        self._config = config.identity()
        if self._run is not None and (differs := difference(self._run, self._config)):
            raise UsageError(
                f"{self.path} holds answers of another configuration: {differs}: name another file, "
                "or give --overwrite"
            )
        pending, others = [], []
        config_hash = _hasher(config)
        for item in items:
            entry = self.entries.get(item.id)
            asked = (item.request_hash, config_hash(item))
            same = entry is not None and (entry.request_hash, entry.config_hash) == asked
            if entry is None or (not entry.ok and (retry_failed or not same)):
                pending.append(item)
            elif not same:
                others.append(item.id)
        if others:
            more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            raise UsageError(
                f"{self.path} holds an answer to another question with the id {others[0]!r}{more}: "
                "name another file, or give --overwrite"
            )
        return pending

    def begin(self, pending: Sequence[Item]) -> None:
        """Take out what is going to be asked again; from here on records may be added.

        Raises:
            OutputError: the file cannot be written.
        """
        if self.overwrite and self._file is not None:
            self._file.replace([])
        gone = self.entries.keys() & {item.id for item in pending}
        if gone:
            self._run = None  # its record may be among them
            kept = (record for record in self.records() if record["id"] not in gone)
            self._file.replace(encoded(self._with_run(record)) for record in kept)
            self.entries = {id: entry for id, entry in self.entries.items() if id not in gone}

    def add(self, record: dict[str, Any]) -> None:
        """Append a record.

        Raises:
            OutputError: the file cannot be written.
        """
        if self._file is not None:
            self._file.write(encoded(self._with_run(record)))
        self.entries[record["id"]] = Entry.of(record)

    def failed(self, items: Iterable[Item]) -> int:
        """How many of these items have a record of a failure."""
        return sum(item.id in self.entries and not self.entries[item.id].ok for item in items)

    def records(self) -> Iterator[dict[str, Any]]:
        """All records on disk, in their order."""
        if self.path is not None:
            for record in map(json.loads, whole_lines(self.path)):
                yield record | {"id": spelled(record["id"])}

    def close(self, *, undo: bool = False) -> None:
        """Close the file and let others in; `undo`: a new file without a record goes."""
        if self._file is not None:
            self._file.close(undo=undo)
            self._file = None

    def _with_run(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record, with the configuration where no record on disk has it."""
        if self._run is not None:
            return record
        self._run = self._config
        return record | {"run": self._config}


def _is_ours(path: Path) -> bool:
    """Whether a file begins with a record, or part of one; a manifest's line may begin with an id as well."""
    if not begins_with(path, START):
        return False
    first = next(whole_lines(path, cut_off=True), b"")
    try:
        return first == b"" or json.loads(first).keys() >= set(NEEDED)
    except (ValueError, RecursionError):
        return not first.endswith(b"\n")


def _hasher(config: Config) -> Callable[[Item], str]:
    """A function item -> hash of its configuration; equal settings are hashed once."""
    known: dict[str, str] = {}

    def config_hash(item: Item) -> str:
        key = json.dumps(item.settings, sort_keys=True)
        if key not in known:
            known[key] = item.config(config).hash()
        return known[key]

    return config_hash
