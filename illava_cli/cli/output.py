"""Where results go: stdout or a file, whole or not at all.

A failed write is an `OutputError` (one line, exit 1); a reader that has gone stays a `BrokenPipeError`,
which ends the program quietly.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from illava_cli.errors import OutputError, UsageError
from illava_cli.text import harmless


def emit(text: str) -> None:
    """Writes `text` to stdout now: a reader of a pipe sees streamed words as they come."""
    if sys.stdout is None:
        raise OutputError("cannot write to stdout: it is closed")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # what is still buffered would be tried again when Python exits, and fail with a traceback
        discard_output()
        raise OutputError(f"cannot write to stdout: {error.strerror or error}") from error


def emit_answer(text: str) -> None:
    """`emit` for what a model wrote: on a terminal its control characters must not act."""
    if sys.stdout is not None and sys.stdout.isatty():
        text = harmless(text)
    emit(text)


def discard_output() -> None:
    """Points stdout at nothing, so that the flush at exit cannot fail once more."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):
        pass  # stdout is no real file: then there is nothing to flush


def check_target(path: Path) -> None:
    """Refuses an output path that cannot work, before a model is loaded for it."""
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; name a file in it")
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK) and not _is_stream(path):
        raise OutputError(f"cannot write {path}: the folder {folder} is not writable")


def check_targets(paths: Iterable[Path | None], plot: Path | None = None) -> None:
    """Refuses files for results that cannot work, or are given twice; `plot` is for a picture."""
    given = [path for path in (*paths, plot) if path is not None]
    for path in given:
        check_target(path)
        if given.count(path) > 1:
            raise UsageError(f"{path} is given for two results: name a file for each")
    if plot is not None:
        from illava_cli.drawing import check_plot

        check_plot(plot)


def make_folder(path: Path) -> None:
    """Makes a folder for results, or refuses what none can be, before a model is loaded."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to the folder {path}: choose another one")


def write_file(path: Path, text: str) -> None:
    """Writes `text` to `path` whole or not at all: a temporary file beside it, then a rename."""
    check_target(path)
    data = text.encode("utf-8", errors="backslashreplace")
    try:
        if _is_stream(path):
            path.write_bytes(data)
        else:
            _replace(Path(os.path.realpath(path)), data)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _is_stream(path: Path) -> bool:
    """A device or a pipe (`/dev/stdout`, `>(command)`): written to, never replaced."""
    return path.exists() and not path.is_file()


def _replace(path: Path, data: bytes) -> None:
    temporary = path.parent / f".illava-{os.getpid()}-{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(temporary, stat.S_IMODE(path.stat().st_mode))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
