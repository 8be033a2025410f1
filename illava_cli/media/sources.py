"""What a source is, decided here alone for every door: flags, chat, batches, manifests, task files, Python.

    -                      stdin (flags only)
    http://, https://      is downloaded
    data:                  holds the medium itself
    file:                  a path, percent-encoded
    anything else          a path; `~` is the home folder, and where several may be meant, a glob

What is there is always meant first: a file whose name begins with `~` or holds `*` needs no quoting.
Everything downstream sees a `Located`: either a regular file's path or bytes already in memory.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

from illava_cli.errors import MediaError, UsageError
from illava_cli.media.access import EVERYTHING, Access, shown
from illava_cli.media.data_urls import contents, data_name, media_type, pictures
from illava_cli.media.deadline import gathered
from illava_cli.media.download import download, is_http, without_credentials
from illava_cli.media.sniff import HEAD_BYTES
from illava_cli.text import one_line

STDIN = "-"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


@dataclass(frozen=True)
class Located:
    """A medium that exists and is not empty: either `path` (a regular file, absolute so that no decoder
    takes its name for a protocol) or `data` is set. A clip that was given as `pictures` has these as well,
    and the first of them as its data."""

    name: str
    path: Path | None = None
    data: bytes | None = None
    pictures: tuple[bytes, ...] = ()

    def head(self) -> bytes:
        """The first bytes, for `sniff`."""
        if self.data is not None:
            return self.data[:HEAD_BYTES]
        with open(self.path, "rb") as file:
            return file.read(HEAD_BYTES)

    def read(self) -> bytes:
        """All of it."""
        return self.data if self.data is not None else self.path.read_bytes()


# --- what a text means ------------------------------------------------------------------------


def kind_of(text: str) -> str:
    """`stdin`, `http`, `data`, `file` or `path`."""
    if text == STDIN:
        return "stdin"
    start = text.lstrip()[:8].lower()
    if is_http(start):
        return "http"
    return start[:4] if start.startswith(("data:", "file:")) else "path"


def is_url(text: str) -> bool:
    """Whether it is an address of any kind, so that no folder and no glob has a part in it."""
    return kind_of(text) in ("http", "data", "file")


def name_of(source: Any) -> str:
    """How a source is called in messages and records: in one line, without passwords and megabytes."""
    if isinstance(source, Located):
        return source.name
    if isinstance(source, bytes | bytearray | memoryview):
        return "<bytes>"
    if not isinstance(source, str | os.PathLike):
        return f"<{type(source).__name__}>"
    text = os.fsdecode(source)
    if isinstance(source, str) and kind_of(text) in ("stdin", "data"):
        return "stdin" if text == STDIN else data_name(text.lstrip())
    return one_line(without_credentials(text))


def called(source: Any, access: Access) -> str:
    """As `name_of`; what strangers wrote is not repeated to them by the megabyte."""
    name = name_of(source)
    return name if access == EVERYTHING else shown(name)


def content_of(source: str) -> str:
    """`image` or `video`, as far as a URL says it; else empty."""
    kind = media_type(source.lstrip()).partition("/")[0] if kind_of(source) == "data" else ""
    return kind if kind in ("image", "video") else ""


def suffix_of(source: str) -> str:
    """The suffix of what a path or an address names, such as `.jpg`, in lower case."""
    if kind_of(source) in ("http", "file"):
        source = re.split(r"[?#]", source, maxsplit=1)[0]
    elif kind_of(source) == "data":
        return ""
    return os.path.splitext(source.rstrip())[1].lower()


def local_path(source: str, folder: str | Path = "") -> str:
    """The path that a path or a `file:` URL means, relative ones in `folder`; it need not exist.

    Raises:
        MediaError: the URL names another machine.
    """
    if kind_of(source) == "file":
        return _path_of_url(source, folder)
    path = _within(folder, source)
    if source.startswith("~") and not os.path.lexists(path):
        try:
            return os.path.expanduser(source)
        except ValueError:  # what no user's name can be
            return path
    return path


def located(name: str, folder: str | Path) -> str:
    """A name that stands in a file in `folder`, as a source that means the same here; a URL stays as it is.

    `-` is a file of that name: stdin is no file's to give away.
    """
    if kind_of(name) in ("http", "data"):
        return name
    try:
        path = local_path(name, folder)
    except MediaError:
        return name  # it is refused where it is read
    if kind_of(name) == "file" and os.path.isabs(path):
        return name
    return name if _SCHEME.match(name) and not os.path.lexists(path) else as_path(path)


def as_path(path: str) -> str:
    """A path found on disk as a source: one that would mean something else begins with `./`."""
    return f"./{path}" if kind_of(path) != "path" or path.startswith("~") else path


def _within(folder: str | Path, path: str) -> str:
    return str(PurePath(folder, path)) if str(folder) else path


def _path_of_url(url: str, folder: str | Path) -> str:
    rest = url.strip()[len("file:") :]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = slash + path
        if host.lower() not in ("", "localhost"):
            raise MediaError(
                f"{name_of(url)}: names a file of another machine; write file:/// and its path here"
            )
    if not rest:
        raise MediaError(f"{name_of(url)}: names no file; write file:/// and its path")
    whole = _within(folder, _unquoted(rest))
    if os.path.lexists(whole):
        return whole
    # strictly ? and # end a path, but who writes them raw mostly means a file of that name
    return _within(folder, _unquoted(re.split(r"[?#]", rest, maxsplit=1)[0]))


def _unquoted(path: str) -> str:
    if os.name == "nt":
        from urllib.request import url2pathname

        return url2pathname(path)
    try:
        return os.fsdecode(unquote_to_bytes(os.fsencode(path)))
    except UnicodeEncodeError:  # half a character, which no file's name has
        return path


# --- which sources are meant ------------------------------------------------------------------


def expand_sources(patterns: Sequence[str]) -> list[str]:
    """Sources in the order given; a glob becomes its matching files, sorted (`**` descends).

    An existing file whose name holds glob characters is taken literally. Raises `MediaError` for a missing
    file, a directory, or a glob without a match, and `UsageError` when `-` is given twice.
    """
    if list(patterns).count(STDIN) > 1:
        raise UsageError("'-' is given more than once, but stdin can be read only once; name files instead")
    return [source for pattern in patterns for source in _expanded(pattern)]


def _expanded(pattern: str) -> Iterator[str]:
    if kind_of(pattern) in ("stdin", "http", "data"):
        yield pattern
        return
    path = local_path(pattern)
    if kind_of(pattern) == "file" or not glob.has_magic(path) or os.path.lexists(path):
        _existing(pattern)
        yield pattern
        return
    try:
        matches = sorted(match for match in glob.glob(path, recursive=True) if not os.path.isdir(match))
    except (OSError, ValueError):  # no name has a NUL
        matches = []
    if not matches:
        raise MediaError(
            f"{_shortened(pattern)}: no file matches this pattern; check the folder and spelling"
        )
    yield from map(as_path, matches)


def split_sources(line: str) -> list[str]:
    """The sources in a CSV cell, between semicolons; those of a data URL belong to it."""
    found = re.findall(r"\s*data:[^,;]*(?:;[^,;]*)*,[^;]*|[^;]+", line, re.IGNORECASE)
    return [part.strip() for part in found if part.strip()]


# --- getting at it ----------------------------------------------------------------------------


def locate(source: str | os.PathLike | bytes | Located, access: Access = EVERYTHING) -> Located:
    """Finds, downloads or reads `source`: what this module's heading says, a path, or the bytes themselves.

    What it gives can be read again and again, which stdin and a pipe cannot; it is a source itself. A
    download and a pipe take as long as they take: see `deadline.within`.

    Args:
        access: what may be got, and how much of it.

    Raises:
        MediaError: it is missing, empty, unreadable, a directory, not to be got, or, of what is held in
            memory, over `access.max_bytes`.
    """
    if isinstance(source, Located):
        return source
    name = called(source, access)
    if isinstance(source, bytes | bytearray | memoryview):
        return _held(name, bytes(source))
    text = os.fsdecode(source)
    kind = kind_of(text) if isinstance(source, str) else "path"
    access.check(kind, name)
    if kind == "stdin":
        return _held(name, _read_stdin(access.max_bytes))
    if kind == "http":
        return _held(name, download(text, name, access))
    if kind == "data":
        if frames := pictures(text.lstrip(), access.max_bytes):
            return Located(name, data=frames[0], pictures=tuple(frames))
        return _held(name, contents(text.lstrip(), access.max_bytes))
    if access.roots is not None:
        return _held(name, access.read(local_path(text), name))
    path = _existing(text if isinstance(source, str) else as_path(text))
    try:
        with open(path, "rb") as file:
            # A pipe such as <(command) can be read once and not sought in, so it is read whole.
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return _held(name, _bounded(file, name, access.max_bytes))
            if not file.read(1):
                raise MediaError(f"{name}: the file is empty; check the download or copy")
    except OSError as error:
        raise MediaError(
            f"{name}: cannot be read ({error.strerror or error}); check its permissions"
        ) from None
    return Located(name, path=path.absolute())


def _existing(text: str) -> Path:
    """The path of a file or a pipe that is there."""
    name = _shortened(text)
    path = local_path(text)
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if not name:
            raise MediaError("the path of an image or video is empty; name the file") from None
        raise MediaError(f"{name}: no such file; check the path{_unknown_scheme(text)}") from None
    except (OSError, ValueError) as error:
        reason = one_line(getattr(error, "strerror", None) or error)
        raise MediaError(f"{name}: not a usable path ({reason}); check the path") from None
    if stat.S_ISDIR(mode):
        raise MediaError(f"{name}: is a directory; name its files, for example '{name.rstrip('/')}/*.jpg'")
    if stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        raise MediaError(
            f"{name}: is a {'socket' if stat.S_ISSOCK(mode) else 'disk'}, not a file; name a file"
        )
    return Path(path)


def _unknown_scheme(text: str) -> str:
    found = _SCHEME.match(text)
    return f" ({found[1]}: addresses are not read: http, https, file and data are)" if found else ""


def _shortened(text: str) -> str:
    return shown(name_of(text))


def _held(name: str, data: bytes) -> Located:
    if not data:
        raise MediaError(f"{name}: holds no bytes; check what provides it")
    return Located(name, data=data)


def _read_stdin(max_bytes: int) -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise MediaError("stdin: nothing is piped in; use `command - < file` or name the file")
    return _bounded(sys.stdin.buffer, "stdin", max_bytes)


def _bounded(stream: BinaryIO, name: str, max_bytes: int) -> bytes:
    """All of a stream, as long as it can be held."""
    return gathered(iter(lambda: stream.read(2**20), b""), name, max_bytes)
