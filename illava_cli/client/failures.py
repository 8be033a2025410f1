"""What it means that a server gave no answer: to try again, to give up this question, or all of them.

429, and 503 with a time to wait       the server is busy: again, as late as it says
408, 425, 5xx, a connection that ends,
an answer that is none                 it may pass: again, later each time
no connection to be had                the same; in the end no question has an answer
401, 402, 403, 404, no quota           no question has an answer
an unknown field that was asked for    no question that has it has an answer
any other                              this question has none
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from illava_cli.client.settings import OPTIONAL
from illava_cli.errors import ServerError, UsageError
from illava_cli.text import one_line

SHOWN = 300  # characters of what a server says
AGAIN = (408, 425, 500, 502, 503, 504)
BUSY = 429
HOPELESS = (401, 402, 403, 404)
HOPELESS_CODES = ("insufficient_quota", "model_not_found")
UNKNOWN = re.compile(
    r"un(known|recogni[sz]ed|supported|expected)|not (supported|permitted|allowed)|extra|additional", re.I
)


class Unusable(ServerError):
    """No question will be answered: the server is gone, refuses the key, or has no such model."""


class UnknownField(UsageError):
    """The server does not know a setting that was sent, `field`."""

    def __init__(self, message: str, field: str):
        super().__init__(message)
        self.field = field


class Passing(Exception):
    """A try that failed, and may be made again.

    Args:
        error: what is told where it is not.
        wait: seconds that the server asks for.
        busy: it is not the server's fault, and does not count.
    """

    def __init__(self, error: ServerError, wait: float | None = None, busy: bool = False):
        super().__init__(str(error))
        self.error, self.wait, self.busy = error, wait, busy


def failure(
    url: str, status: int, headers: Mapping[str, str], data: bytes, body: dict[str, Any]
) -> Exception:
    """What an HTTP status that is no success means; `body` is what was asked."""
    code, param, message = told(data)
    said = f"{url}: answered {status}{': ' if message else ''}{message}"
    if status in HOPELESS or code in HOPELESS_CODES:
        hint = "; give --server-key, or ILLAVA_SERVER_KEY" if status in (401, 403) else ""
        return Unusable(said + hint)
    wait = seconds_to_wait(headers)
    if status == BUSY or (status == 503 and wait is not None):
        return Passing(ServerError(said), wait, busy=True)
    if status in AGAIN:
        return Passing(ServerError(said))
    if status in (400, 422) and UNKNOWN.search(f"{code} {message}"):
        for name in OPTIONAL:
            if name in body and (param == name or re.search(rf"\b{name}\b", message)):
                return UnknownField(f"{said}; leave out {name}, or give what this server takes", name)
    return ServerError(said)


def told(data: bytes) -> tuple[str, str, str]:
    """Code, parameter and words of a server's error: in OpenAI's form, in FastAPI's, or in none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return "", "", one_line(data[:SHOWN].decode(errors="replace"))
    error = found.get("error", found) if isinstance(found, dict) else found
    if not isinstance(error, dict):
        return "", "", one_line(error)[:SHOWN]
    message = error.get("message") or error.get("detail") or ""
    message = message if isinstance(message, str) else json.dumps(message)
    return str(error.get("code") or ""), str(error.get("param") or ""), one_line(message)[:SHOWN]


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """What `Retry-After` says: seconds, or a time."""
    said = headers.get("Retry-After", "").strip()
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(said).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if seconds < 1e9 else None
