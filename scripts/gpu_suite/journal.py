"""What the suite learned, one JSON object a line, appended in one write by whichever process learned it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Journal:
    """A file of records; `kind` says what a record is about."""

    def __init__(self, path: Path):
        self.path = path

    def add(self, kind: str, **fields: Any) -> None:
        """Append a record: whole, or not at all where a kill comes before the write."""
        record = {"kind": kind, "at": round(time.time(), 2), **fields}
        line = json.dumps(record, ensure_ascii=False, default=str) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.encode("utf-8", errors="backslashreplace"))
        finally:
            os.close(file)

    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def read(self) -> list[Record]:
        """All records that are whole."""
        return read(self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else [])


def read(lines: Iterable[str]) -> list[Record]:
    """The records of some lines; one that was cut off is left out."""
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "kind" in record:
            records.append(record)
    return records
