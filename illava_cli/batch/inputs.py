"""What the command line names -> items: files, folders, globs, paths on stdin, and manifests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from illava_cli.batch.item import Item, asked_each, unique
from illava_cli.batch.manifest import is_manifest, read_manifest
from illava_cli.errors import MediaError, UsageError
from illava_cli.media.sniff import HEAD_BYTES, sniff
from illava_cli.media.sources import STDIN, expand_sources, is_url
from illava_cli.text import listed

# file names that are taken for media in a folder
IMAGES = (".avif", ".bmp", ".dib", ".gif", ".ico", ".j2k", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm")
IMAGES += (".heic", ".heif", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".tif", ".tiff", ".webp")
VIDEOS = (".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts")
VIDEOS += (".ogv", ".ts", ".webm", ".wmv")
KINDS = dict.fromkeys(IMAGES, "image") | dict.fromkeys(VIDEOS, "video")


def read_inputs(
    inputs: Sequence[str],
    prompts: Sequence[str],
    *,
    recursive: bool = False,
    stdin: BinaryIO | None = None,
    separator: bytes = b"\n",
    on_note: Callable[[str], None] = lambda text: None,
) -> list[Item]:
    """The items of a run, in the order given; those of a folder by name.

    The id of a file is its path as given (`photos/a.jpg` for a file found in `photos/`), from a second
    prompt on followed by `#2`, `#3`, ...; a manifest's line has its own, or `NAME:LINE`.

    Args:
        inputs: media files, URLs, globs, folders, manifests, and `-` for paths on stdin.
        prompts: asked of every file, and of a manifest's lines that have none.
        recursive: also what lies deeper in the folders.
        separator: what ends a path on stdin.
        on_note: takes one-line messages for a person (files left out).

    Raises:
        MediaError: an input that does not exist, or nothing to ask about.
        UsageError: a broken manifest, two items of the same id, or no prompt.
    """
    if list(inputs).count(STDIN) > 1:
        raise UsageError("- (stdin) can stand for one input only")
    items: list[Item] = []
    for name in inputs:
        if name == STDIN:
            items += _from_stdin(stdin, prompts, separator)
        elif os.path.isdir(name):
            items += _from_folder(name, prompts, recursive, on_note)
        else:
            for source in expand_sources([name]):
                items += _from_file(source, prompts)
    return unique(items)


def _from_file(source: str, prompts: Sequence[str]) -> Iterator[Item]:
    if not is_url(source) and is_manifest(Path(source)):
        yield from read_manifest(Path(source), prompts)
    else:
        yield from _asked(source, _kind(source), prompts, source)


def _from_stdin(stdin: BinaryIO | None, prompts: Sequence[str], separator: bytes) -> Iterator[Item]:
    if stdin is None or stdin.isatty():
        raise UsageError("- reads paths from stdin, and nothing is piped in: find . | illava batch - ...")
    paths = listed(stdin.read(), separator)
    if not paths:
        raise MediaError("stdin names no files")
    for path in paths:
        yield from _asked(path, _kind(path), prompts, "stdin")


def _from_folder(
    folder: str, prompts: Sequence[str], recursive: bool, on_note: Callable[[str], None]
) -> Iterator[Item]:
    found, others, folders = [], 0, 0
    for path, names, files in os.walk(folder, onerror=_unreadable):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in files:
            if name.startswith("."):
                continue
            if os.path.splitext(name)[1].lower() in KINDS:
                found.append(os.path.normpath(os.path.join(path, name)))
            else:
                others += 1
        if not recursive:
            folders = len(names)
            break
    if not found:
        hint = f"; -r looks into its {folders} folders" if folders else ""
        raise MediaError(f"{folder}: holds no images or videos{hint}")
    if others:
        on_note(f"{folder}: {others} {'file is' if others == 1 else 'files are'} no image or video by name")
    for path in sorted(found):
        yield from _asked(path, _kind(path), prompts, folder)


def _unreadable(error: OSError) -> None:
    raise MediaError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions")


def _kind(source: str) -> str:
    """Image or video, by the name, else by the first bytes; what cannot be told is read as an image."""
    kind = KINDS.get(os.path.splitext(source.split("?")[0] if is_url(source) else source)[1].lower())
    if kind is not None or is_url(source):
        return kind or "image"
    try:
        if not os.path.isfile(source):
            return "image"  # a pipe can be read only once
        with open(source, "rb") as file:
            looks = sniff(file.read(HEAD_BYTES))[0]
    except OSError:
        return "image"  # it says why when it is read
    return "video" if looks in ("mp4", "matroska", "video") else "image"


def _asked(source: str, kind: str, prompts: Sequence[str], where: str) -> Iterator[Item]:
    if not prompts:
        raise UsageError(f"a prompt is required for {source}: give --prompt TEXT")
    media = {f"{kind}s": (source,)}
    yield from asked_each(Item(source, "", where=where, **media), prompts)
