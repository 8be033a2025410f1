"""What a server logs: that there was a request, and how it ended; nothing of what was in it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback

NAMES = ("illava.serve", "uvicorn.error", "asyncio")


class _Formatter(logging.Formatter):
    """Of an exception its kind and its place: its message may hold what was asked."""

    def formatException(self, info) -> str:
        kind, _, places = info
        return "".join([*traceback.format_tb(places), kind.__name__])


def _is_fault(record: logging.LogRecord) -> bool:
    """Whether it says more than that the server's end has broken something off."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def log_to_stderr(quiet: bool) -> None:
    """Send what is logged to stderr, a line each; `quiet`: only what went wrong."""
    handler = logging.StreamHandler(sys.stderr)
    debug = bool(os.environ.get("ILLAVA_DEBUG"))
    form = logging.Formatter if debug else _Formatter
    handler.setFormatter(form("illava: %(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    handler.addFilter(_is_fault)
    for name in NAMES:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "illava.serve" and not quiet else logging.WARNING)
    # warnings of media name them
    logging.getLogger("illava").setLevel(logging.ERROR)
