"""Hears the decoder inside decord complain: the only sign of damage that decord gives.

On damaged data FFmpeg shows something made up, flags it and logs an error. decord passes neither on.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
from pathlib import Path

_ERROR = 16  # AV_LOG_ERROR; lower is worse

_errors: list[int] = []


def count() -> int | None:
    """How many errors decord's FFmpeg has logged in this process; None where it cannot be heard."""
    return len(_errors) if _listening() else None


@functools.cache
def _listening() -> bool:
    """Puts `_note` in the place of FFmpeg's log lines, once and until the process ends."""
    import decord

    # A wheel brings its own FFmpeg, beside the package or (macOS) within it; not that of PyAV.
    folders = (Path(decord.__file__).parents[1] / "decord.libs", Path(decord.__file__).parent)
    libraries = [found for folder in folders for found in sorted(folder.rglob("libavutil*"))]
    try:
        library = ctypes.CDLL(str(libraries[0]))
        set_callback, default = library.av_log_set_callback, library.av_log_default_callback
    except (IndexError, OSError, AttributeError):
        return False
    set_callback(_note)
    # Its threads may not call into an interpreter that is gone.
    atexit.register(set_callback, default)
    return True


@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _note(_context: int | None, level: int, _message: bytes | None, _arguments: int | None) -> None:
    if level <= _ERROR:
        _errors.append(level)
