"""Turns what the user names (path, glob, URL, `-`) into one readable thing, with one-line errors.

Everything downstream sees a `Located`: either a regular file's path or bytes already in memory.
"""

from __future__ import annotations

import base64
import binascii
import glob
import http.client
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from illava_cli.errors import MediaError, UsageError
from illava_cli.media.sniff import HEAD_BYTES

MAX_BYTES = 256 * 2**20  # for whatever has to be held in memory: downloads, stdin, pipes
TIMEOUT_S = 30.0
STDIN = "-"


@dataclass(frozen=True)
class Located:
    """A medium that exists and is not empty: either `path` (a regular file, absolute so that no decoder
    takes its name for a protocol) or `data` is set."""

    name: str
    path: Path | None = None
    data: bytes | None = None

    def head(self) -> bytes:
        """The first bytes, for `sniff`."""
        if self.data is not None:
            return self.data[:HEAD_BYTES]
        with open(self.path, "rb") as file:
            return file.read(HEAD_BYTES)

    def read(self) -> bytes:
        """All of it."""
        return self.data if self.data is not None else self.path.read_bytes()


def one_line(text: object) -> str:
    """`text` without line breaks: messages are one line, whatever a library or a file name says."""
    return " ".join(str(text).split())


def is_url(text: str) -> bool:
    """True for http and https addresses."""
    return text.lower().startswith(("http://", "https://"))


def located(name: str, folder: str | Path) -> str:
    """A name that stands in a file in `folder`, as it can be opened from here; a URL stays as it is.

    `-` is a file of that name: stdin is no file's to give away.
    """
    if name.lower().startswith(("http://", "https://", "file://", "data:")):
        return name
    path = str(PurePath(folder, name))
    return f"./{path}" if path == STDIN else path


def data_name(url: str) -> str:
    """How a data URL is called in messages and records: not by its megabytes."""
    return f"<{one_line(url[:80].split(',')[0])}>"


def expand_sources(patterns: Sequence[str]) -> list[str]:
    """Sources in the order given; a glob becomes its matching files, sorted.

    Each pattern is a path, an http(s) or file URL, a glob (`**` descends), or `-` for stdin. An existing
    file whose name holds glob characters is taken literally. Raises `MediaError` for a missing file, a
    directory, or a glob without a match, and `UsageError` when `-` is given twice.
    """
    if list(patterns).count(STDIN) > 1:
        raise UsageError("'-' is given more than once, but stdin can be read only once; name files instead")
    sources: list[str] = []
    for pattern in patterns:
        if pattern == STDIN or is_url(pattern):
            sources.append(pattern)
        elif not _is_glob(pattern) or pattern.lower().startswith("file://") or Path(pattern).exists():
            _existing(pattern)
            sources.append(pattern)
        else:
            matches = sorted(
                match for match in glob.glob(pattern, recursive=True) if not Path(match).is_dir()
            )
            if not matches:
                raise MediaError(
                    f"{one_line(pattern)}: no file matches this pattern; check the folder and spelling"
                )
            sources.extend(matches)
    return sources


def locate(source: str | Path | bytes | Located) -> Located:
    """Finds, downloads or reads `source` (path, http(s), file or data URL, `-`, or the bytes themselves).

    What it gives can be read again and again, which stdin and a pipe cannot; it is a source itself.

    Raises `MediaError` when it is missing, empty, unreadable, a directory, or, for what is held in
    memory, over `MAX_BYTES`.
    """
    if isinstance(source, Located):
        return source
    if isinstance(source, bytes | bytearray | memoryview):
        return _held("<bytes>", bytes(source))
    text = str(source)
    if text == STDIN:
        return _held("stdin", _read_stdin())
    if is_url(text):
        return _held(one_line(text), _download(text))
    if text[:5].lower() == "data:":
        return _held(data_name(text), _decoded(text))
    path = _existing(text)
    name = one_line(text)
    try:
        with open(path, "rb") as file:
            # A pipe such as <(command) can be read once and not sought in, so it is read whole.
            if not path.is_file():
                return _held(name, _bounded(file, name))
            if not file.read(1):
                raise MediaError(f"{name}: the file is empty; check the download or copy")
    except OSError as error:
        raise MediaError(
            f"{name}: cannot be read ({error.strerror or error}); check its permissions"
        ) from None
    return Located(name, path=path.absolute())


def _is_glob(pattern: str) -> bool:
    return any(character in pattern for character in "*?[")


def _existing(text: str) -> Path:
    name = one_line(text)
    if not name:
        raise MediaError("the path of an image or video is empty; name the file")
    if text.lower().startswith("file://"):
        text = urllib.request.url2pathname(urllib.parse.urlparse(text).path)
    path = Path(text)
    try:
        is_dir, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        reason = one_line(getattr(error, "strerror", None) or error)
        name = name if len(name) <= 200 else f"{name[:200]}..."
        raise MediaError(f"{name}: not a usable path ({reason}); check the path") from None
    if is_dir:
        raise MediaError(f"{name}: is a directory; name its files, for example '{name.rstrip('/')}/*.jpg'")
    if not exists:
        raise MediaError(f"{name}: no such file; check the path")
    return path


def _held(name: str, data: bytes) -> Located:
    if not data:
        raise MediaError(f"{name}: holds no bytes; check what provides it")
    return Located(name, data=data)


def _decoded(url: str) -> bytes:
    """The bytes within a data URL."""
    head, comma, data = url.partition(",")
    name = data_name(url)
    if not comma:
        raise MediaError(f"{name}: is no data URL; write data:image/jpeg;base64,...")
    if not head.lower().endswith(";base64"):
        return urllib.parse.unquote_to_bytes(data)
    try:
        return base64.b64decode(urllib.parse.unquote(data), validate=True)
    except (binascii.Error, ValueError):
        raise MediaError(f"{name}: is not valid base64; encode the file again") from None


def _read_stdin() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise MediaError("stdin: nothing is piped in; use `command - < file` or name the file")
    return _bounded(sys.stdin.buffer, "stdin")


def _bounded(stream: BinaryIO, name: str) -> bytes:
    """All of `stream`, or a `MediaError` as soon as it passes `MAX_BYTES`."""
    chunks: list[bytes] = []
    size = 0
    while chunk := stream.read(2**20):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BYTES:
            raise MediaError(f"{name}: is over {MAX_BYTES // 2**20} MiB; save it to a file and name that")
    return b"".join(chunks)


def _download(url: str) -> bytes:
    name = one_line(url)
    request = urllib.request.Request(url, headers={"User-Agent": "illava-cli"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            declared = response.headers.get("Content-Length", "")
            data = _bounded(response, name)
    except urllib.error.HTTPError as error:
        raise MediaError(
            f"{name}: the server answered {error.code} {error.reason}; check the address"
        ) from None
    except TimeoutError:
        raise MediaError(
            f"{name}: no answer within {TIMEOUT_S:.0f} s; try again or download it first"
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = one_line(getattr(error, "reason", None) or error)
        raise MediaError(f"{name}: download failed ({reason}); check the address and the network") from None
    if declared.isdigit() and len(data) < int(declared):
        raise MediaError(f"{name}: the download broke off at {len(data)} of {declared} bytes; try again")
    return data
