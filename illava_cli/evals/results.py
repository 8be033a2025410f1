"""The file of answers: JSON lines, only ever appended to, so that a run that was cut off goes on.

A line is either the declaration of a variant (its name and whole configuration) or one answer, found again
by the sample's id, a hash of what was asked, and the variant's configuration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from illava_cli.engine.appending import AppendedFile, begins_with, difference, encoded, whole_lines
from illava_cli.engine.features import content_key
from illava_cli.engine.markers import unplaced
from illava_cli.errors import OutputError, UsageError
from illava_cli.evals.sample import EvalSample
from illava_cli.evals.variants import Variant

Key = tuple[str, str, str]
DECLARATION = b'{"variant": '


def asked(sample: EvalSample) -> str:
    """Hash of everything that is asked: prompt, answers and media (pictures by content, files by name)."""
    words = (sample.prompt, sample.answer, sample.choices)
    media = []
    for medium in (*sample.images, *sample.videos):
        if isinstance(medium, str | Path):
            media.append(Path(medium).name)
        else:
            media.append(content_key(medium if isinstance(medium, tuple | np.ndarray) else [medium]))
    text = json.dumps([words, len(sample.images), media], ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def without_media(sample: EvalSample) -> EvalSample:
    """The same question asked blind: its media and their places in the prompt are gone."""
    return replace(sample, prompt=unplaced(sample.prompt).strip(), images=(), videos=())


class Results:
    """Answers by key, in memory and, with a path, in a file."""

    def __init__(self, path: Path | None):
        """
        Raises:
            UsageError: the file is none of ours, or damaged.
            OutputError: it cannot be read.
        """
        self.path = path
        self._found: dict[Key, dict[str, Any]] = {}
        self._declared: dict[str, dict[str, Any]] = {}
        self._file: AppendedFile | None = None
        self._whole = 0 if path is None else self._read(path)

    def check(self, variants: Sequence[Variant]) -> None:
        """Refuse variants under whose names the file holds answers of another configuration.

        Raises:
            UsageError: names what differs.
        """
        answered = {config_hash for _, _, config_hash in self._found}
        for variant in variants:
            there = self._declared.get(variant.name)
            if there is not None and there["config_hash"] in answered:
                self._refuse_another(there["config"], variant)

    def declare(self, variants: Sequence[Variant]) -> None:
        """Begin to write, or go on, with the configurations of these variants.

        Raises:
            UsageError: as `check`.
            OutputError: the file cannot be written.
        """
        self.check(variants)
        if self.path is None:
            return
        if self._file is None:
            self._file = AppendedFile(self.path)
            if self._file.length != self._length:
                raise OutputError(f"{self.path} was written to by another process: run again")
            self._file.cut(self._whole)  # a write that was cut off
        lines = {variant.name: _declaration(variant) for variant in variants}
        new = {name: line for name, line in lines.items() if line != self._declared.get(name)}
        self._write(new.values())
        self._declared |= new

    def get(self, key: Key) -> dict[str, Any] | None:
        """The record of an answer, if there is one."""
        return self._found.get(key)

    def is_answered(self, key: Key) -> bool:
        """Whether there is an answer; one that failed is asked again."""
        record = self._found.get(key)
        return record is not None and record["status"] == "ok"

    def add(self, records: Iterable[tuple[Key, dict[str, Any]]]) -> None:
        """Keep these answers.

        Raises:
            OutputError: the file cannot be written.
        """
        records = list(records)
        self._found |= records
        self._write({"key": list(key), **record} for key, record in records)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, lines: Iterable[dict[str, Any]]) -> None:
        if self._file is not None:
            self._file.write(b"".join(map(encoded, lines)))

    def _read(self, path: Path) -> int:
        """Take in what is there; the length of its whole lines in bytes."""
        self._length = path.stat().st_size if path.is_file() else 0
        if not begins_with(path, DECLARATION):
            raise UsageError(f"{path} is there and holds no answers of illava eval: name another file")
        whole = 0
        for number, line in enumerate(whole_lines(path), 1):
            whole += len(line)
            try:
                record = json.loads(line)
                if "config" in record:
                    self._declared[record["variant"]] = record
                else:
                    name, what, config_hash = record.pop("key")
                    self._found[name, what, config_hash] = record | {"status": str(record["status"])}
            except (ValueError, KeyError, TypeError, AttributeError):
                raise UsageError(f"{path}, line {number}: damaged; delete this line to go on") from None
        return whole

    def _refuse_another(self, there: dict[str, Any], variant: Variant) -> None:
        differs = difference(there, _declaration(variant)["config"])
        if not differs:
            return
        raise UsageError(
            f"{self.path} holds answers of a different {variant.name!r}: {differs}: "
            "name another file, or the variant differently"
        )


def _declaration(variant: Variant) -> dict[str, Any]:
    config = variant.config.identity() | {"blind": variant.blind}
    return {"variant": variant.name, "config_hash": variant.config.hash(), "config": config}
