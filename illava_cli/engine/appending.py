"""Files of JSON lines that are only ever appended to, so that no kill loses more than the line in hand.

A line goes out in one write; what a kill leaves of one that was cut off is cut off the file when it is
opened again. A lock keeps a second process out. Imports no torch.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from illava_cli.errors import OutputError
from illava_cli.text import json_text

try:
    import fcntl
except ImportError:  # Windows: no lock
    fcntl = None

SYNC_S = 5.0  # what a power cut may cost, a kill costs nothing of it
SHOWN = 3  # differences that an error names


def encoded(line: dict[str, Any]) -> bytes:
    """One line of a file."""
    return (json_text(line) + "\n").encode()


def whole_lines(path: Path, *, cut_off: bool = False) -> Iterator[bytes]:
    """The lines of a file with their newlines, but for a last one that was cut off.

    Args:
        cut_off: that one too.

    Raises:
        OutputError: it cannot be read.
    """
    if not path.exists():
        return
    try:
        with open(path, "rb") as file:
            for line in file:
                if cut_off or line.endswith(b"\n"):
                    yield line
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error


def begins_with(path: Path, prefix: bytes) -> bool:
    """Whether a file begins so, as far as it goes; one that is not there does.

    Raises:
        OutputError: it cannot be read, or is no regular file.
    """
    _refuse_irregular(path)
    if not path.exists():
        return True
    try:
        with open(path, "rb") as file:
            return prefix.startswith(file.read(len(prefix)))
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error


class AppendedFile:
    """A locked file of lines, open for appending."""

    def __init__(self, path: Path):
        """Open or create it, and keep other processes out.

        Raises:
            OutputError: it cannot be written, is no regular file, or another process writes to it.
        """
        self.path = path
        self._synced = time.monotonic()
        self._is_new = not path.exists()
        _refuse_irregular(path)
        try:
            self._file: int | None = self._open()
            self.length = os.fstat(self._file).st_size
        except OSError as error:
            raise _cannot_write(path, error) from error

    def _open(self) -> int:
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                _lock(file, self.path)
                # the process that held it may have put another file in its place meanwhile, or none
                if self.path.exists() and os.path.samestat(os.fstat(file), os.stat(self.path)):
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def cut(self, length: int) -> None:
        """Cut off what lies after `length`.

        Raises:
            OutputError: the file cannot be written.
        """
        try:
            os.ftruncate(self._file, length)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        self.length = length

    def write(self, data: bytes) -> None:
        """Append whole lines; where that fails, none of them is there.

        Raises:
            OutputError: the file cannot be written (the disk is full).
        """
        rest = memoryview(data)
        try:
            # one call for whole lines: Ctrl-C comes before it or after it
            while rest:
                rest = rest[os.write(self._file, rest) :]
            self.length += len(data)
            if time.monotonic() - self._synced > SYNC_S:
                self._sync()
        except OSError as error:
            os.ftruncate(self._file, self.length)
            raise _cannot_write(self.path, error) from error

    def replace(self, lines: Iterable[bytes]) -> None:
        """Put these lines in the place of all that is there, whole or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        path = Path(os.path.realpath(self.path))
        temporary = path.with_name(f".{path.name}.new")
        try:
            file = os.open(temporary, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                _lock(file, temporary)
                length = 0
                for line in lines:
                    length += len(line)
                    if os.write(file, line) < len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file)
                os.fchmod(file, os.fstat(self._file).st_mode & 0o7777)
                os.replace(temporary, path)
            except BaseException:
                os.close(file)
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        os.close(self._file)
        self._file, self.length = file, length

    def close(self, *, undo: bool = False) -> None:
        """Write through to the disk and let others in.

        Args:
            undo: a new file that got no line goes.
        """
        if self._file is None:
            return
        if self.length:
            self._sync()
        elif self._is_new and undo:
            self.path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = None

    def _sync(self) -> None:
        os.fsync(self._file)
        self._synced = time.monotonic()


def _refuse_irregular(path: Path) -> None:
    """No pipe, nor a device, which `replace` would put a file in the place of."""
    if path.exists() and not path.is_file():
        raise OutputError(f"cannot write {path}: answers go to a regular file, from which a run goes on")


def _lock(file: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(
            f"{path} is being written by another process: wait for it, or name another file"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # file systems without locks
            raise


def _cannot_write(path: Path, error: OSError) -> OutputError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = "; free some space and run again, it goes on where it was" if full else ""
    return OutputError(f"cannot write {path}: {error.strerror}{hint}")


def difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """What differs between two nested mappings, `a.b 1 there, 2 here; ...`; empty where nothing does."""
    before, now = _flat(there), _flat(here)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    shown = [f"{n} {_shown(before.get(n))} there, {_shown(now.get(n))} here" for n in names[:SHOWN]]
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(shown) + more


def _flat(settings: Any, name: str = "") -> dict[str, Any]:
    """`a.b` -> value for nested mappings."""
    if not isinstance(settings, dict):
        return {name: settings}
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{name}.{key}" if name else key)
    return flat


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
