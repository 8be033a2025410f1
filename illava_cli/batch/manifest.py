"""Manifests: a JSONL or CSV file with one question a line. Paths in it are relative to its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from illava_cli.batch import openai
from illava_cli.batch.item import SETTINGS, Item, asked_each, settings_of
from illava_cli.batch.table import rows
from illava_cli.engine.fields import json_object, media_field, refuse_unknown, text_field
from illava_cli.errors import MediaError, UsageError
from illava_cli.media.sources import split_sources
from illava_cli.text import decoded, lines, unix

JSONL, CSV = (".jsonl", ".ndjson"), (".csv", ".tsv")
FIELDS = ("id", "prompt", "image", "images", "video", "videos", *SETTINGS)
WORDS = ("prompt", "system", "stop")  # in whose cells blanks count


def is_manifest(path: Path) -> bool:
    """Whether a file's name says that it is one."""
    return path.suffix.lower() in (*JSONL, *CSV)


def read_manifest(path: Path, prompts: Sequence[str]) -> Iterator[Item]:
    """The items of a manifest.

    Args:
        prompts: asked where a line has no prompt of its own, each of them.

    Raises:
        UsageError: a line that is no question; names the file and the line.
        MediaError: the file cannot be read, or is empty.
    """
    found = _json_lines(path) if path.suffix.lower() in JSONL else _csv_lines(path)
    empty = True
    for number, data in found:
        empty = False
        where = f"{path}, line {number}"
        if "custom_id" in data:
            yield openai.read_line(data, where, str(path.parent))
            continue
        refuse_unknown(data, FIELDS, where)
        item = Item(
            id=text_field(data, "id", where) or f"{path.stem}:{number}",
            prompt=text_field(data, "prompt", where) or "",
            images=media_field(data, "image", where),
            videos=media_field(data, "video", where),
            settings=settings_of({k: v for k, v in data.items() if k in SETTINGS and v is not None}, where),
            folder=str(path.parent),
            where=where,
        )
        if not item.images and not item.videos:
            raise UsageError(f"{where}: names no image and no video")
        if item.prompt.strip():
            yield item
        elif prompts:
            yield from asked_each(item, prompts)
        else:
            raise UsageError(f"{where}: has no prompt: add one, or give --prompt for all lines without")
    if empty:
        raise MediaError(f"{path}: holds no lines; a manifest has one question a line")


def _read(path: Path) -> str:
    try:
        return decoded(path.read_bytes(), str(path))
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from None


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines(_read(path)), 1):
        if line.strip():
            yield number, json_object(line, f"{path}, line {number}", "image or video, and prompt")


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows by the names of the first line; empty cells are absent."""
    for number, cells in rows(_read(path), str(path), FIELDS, tabs=path.suffix.lower() == ".tsv"):
        yield number, {name: _cell(name, cell) for name, cell in cells.items()}


def _cell(name: str, cell: str) -> Any:
    if name in ("images", "videos"):
        return split_sources(cell)
    return unix(cell) if name in WORDS else cell.strip()
