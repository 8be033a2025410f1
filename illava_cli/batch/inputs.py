"""What the command line names -> items: files, folders, globs, paths on stdin, and manifests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from illava_cli.batch.item import Item, asked_each, unique
from illava_cli.batch.manifest import is_manifest, read_manifest
from illava_cli.errors import MediaError, UsageError
from illava_cli.media.data_urls import contents
from illava_cli.media.download import without_credentials
from illava_cli.media.sniff import HEAD_BYTES, is_transport_stream, sniff
from illava_cli.media.sources import (
    STDIN,
    as_path,
    content_of,
    expand_sources,
    is_url,
    kind_of,
    local_path,
    name_of,
    suffix_of,
)
from illava_cli.text import listed

# file names that are taken for media in a folder
IMAGES = (".avif", ".bmp", ".dib", ".gif", ".ico", ".j2k", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm")
IMAGES += (".heic", ".heif", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".tif", ".tiff", ".webp")
VIDEOS = (".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts")
VIDEOS += (".ogv", ".ts", ".webm", ".wmv")
SCRIPTS = (".ts", ".mts")  # of a video, or of TypeScript
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
    prompt on followed by `#2`, `#3`, ...; a manifest's line has its own, or `NAME:LINE`. That of an address
    is without a password, and that of a data URL its type and a hash.

    Args:
        inputs: sources of media, folders, manifests, and `-` for sources on stdin, one a line.
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
        elif (folder := _folder(name)) is not None:
            items += _from_folder(folder, prompts, recursive, on_note)
        else:
            for source in expand_sources([name]):
                items += _from_file(source, prompts)
    return unique(items)


def _folder(name: str) -> str | None:
    """The folder that an input names; None where it names something else."""
    if kind_of(name) in ("http", "data"):
        return None
    try:
        path = local_path(name)
    except MediaError:
        return None  # it says why when it is expanded
    return path if os.path.isdir(path) else None


def _from_file(source: str, prompts: Sequence[str]) -> Iterator[Item]:
    if kind_of(source) in ("path", "file") and is_manifest(Path(local_path(source))):
        yield from read_manifest(Path(local_path(source)), prompts)
    else:
        yield from _asked(source, _kind(source), prompts, name_of(source))


def _from_stdin(stdin: BinaryIO | None, prompts: Sequence[str], separator: bytes) -> Iterator[Item]:
    if stdin is None or stdin.isatty():
        raise UsageError("- reads paths from stdin, and nothing is piped in: find . | illava batch - ...")
    paths = listed(stdin.read(), separator)
    if not paths:
        raise MediaError("stdin names no files")
    for path in paths:
        source = f"./{path}" if path == STDIN else path  # stdin is not read twice
        yield from _asked(source, _kind(source), prompts, "stdin")


def _from_folder(
    folder: str, prompts: Sequence[str], recursive: bool, on_note: Callable[[str], None]
) -> Iterator[Item]:
    found, pipes, others, folders = [], [], 0, 0
    for path, names, files in os.walk(folder, onerror=_unreadable):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in files:
            if name.startswith("."):
                continue
            whole = os.path.normpath(os.path.join(path, name))
            if not _is_medium(whole):
                others += 1
            elif _is_special(whole):
                pipes.append(name_of(name))
            else:
                found.append(as_path(whole))
        if not recursive:
            folders = len(names)
            break
    if not found:
        hint = f"; -r looks into its {folders} folders" if folders else ""
        raise MediaError(f"{folder}: holds no images or videos{hint}")
    if others:
        on_note(f"{folder}: {others} {'file is' if others == 1 else 'files are'} no image or video by name")
    if pipes:
        on_note(f"{folder}: left out pipes, sockets and devices: {', '.join(sorted(pipes))}")
    for path in sorted(found):
        yield from _asked(path, _kind(path), prompts, folder)


def _is_medium(path: str) -> bool:
    """Whether a file in a folder is asked about: by its name, which many a script shares with a clip."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SCRIPTS or _is_special(path):
        return suffix in KINDS
    try:
        with open(path, "rb") as file:
            return is_transport_stream(file.read(HEAD_BYTES))
    except OSError:
        return True  # it says why when it is read


def _is_special(path: str) -> bool:
    """Whether it is there and no regular file: reading it may never end."""
    return os.path.exists(path) and not os.path.isfile(path)


def _unreadable(error: OSError) -> None:
    raise MediaError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions")


def _kind(source: str) -> str:
    """Image or video, by the name, else by the first bytes; what cannot be told is read as an image."""
    kind = KINDS.get(suffix_of(source)) or content_of(source)
    return kind or ("video" if sniff(_head(source))[0] in ("mp4", "matroska", "video") else "image")


def _head(source: str) -> bytes:
    """The first bytes, as far as they cost nothing: not of a download, nor of a pipe, which is read once."""
    try:
        if kind_of(source) == "data":
            return contents(source)[:HEAD_BYTES]
        if kind_of(source) == "http" or not os.path.isfile(path := local_path(source)):
            return b""
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except (OSError, MediaError):
        return b""  # it says why when it is read


def _asked(source: str, kind: str, prompts: Sequence[str], where: str) -> Iterator[Item]:
    if not prompts:
        raise UsageError(f"a prompt is required for {name_of(source)}: give --prompt TEXT")
    media = {f"{kind}s": (source,)}
    yield from asked_each(Item(_id(source), "", where=where, **media), prompts)


def _id(source: str) -> str:
    """What an item is found again by; it stands in the records."""
    if kind_of(source) != "data":
        return without_credentials(source) if is_url(source) else source
    digest = hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{name_of(source)} {digest}"
