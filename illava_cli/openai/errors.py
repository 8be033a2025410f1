"""Expected failures in the form of OpenAI's API: a status, and a body that clients of theirs understand."""

from __future__ import annotations

import re
from typing import Any

from illava_cli.errors import (
    Cancelled,
    ContextError,
    IllavaError,
    MediaError,
    OutOfMemory,
    Timeout,
    UsageError,
)
from illava_cli.text import harmless, one_line

BUG = "the server failed at this request; its log says how"


class RequestError(UsageError):
    """A request that is not answered. `str(error)` is the one line that the client sees.

    Args:
        param: the place in the body, such as `messages[2].role`.
        code: what a program may tell it by, such as `model_not_found`.
        status: of HTTP.
        retry_after: seconds after which it may be asked again.
    """

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        retry_after: float | None = None,
    ):
        super().__init__(one_line(harmless(message)))  # names of fields may be any text
        param = param if param is None else one_line(harmless(param))
        self.param, self.code, self.status, self.retry_after = param, code, status, retry_after


# the first that an error is one of; what is none of them is no client's affair
STATUS: dict[type[IllavaError], tuple[int, str | None]] = {
    UsageError: (400, None),
    MediaError: (400, "invalid_media"),
    ContextError: (400, "context_length_exceeded"),
    Timeout: (504, "timeout"),
    OutOfMemory: (503, "out_of_memory"),
    Cancelled: (503, "cancelled"),
}
# flags of the command line, and where a request says the same
FIELDS = {
    "--image": "image_url",
    "--video": "video_url",
    "--num-frames": "num_frames",
    "--video-budget": "video_budget",
    "--max-tiles": "max_tiles",
    "--min-pixels": "min_pixels",
    "--max-pixels": "max_pixels",
    "--preset": "preset",
}
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error_body(error: BaseException) -> tuple[int, dict[str, Any]]:
    """The status and the body of a request that failed; of bugs and broken models it says no details."""
    if isinstance(error, RequestError):
        return error.status, body_of(str(error), error.status, error.param, error.code)
    for kind, (status, code) in STATUS.items():
        if isinstance(error, kind):
            return status, body_of(for_clients(str(error)), status, None, code)
    return 500, body_of(BUG, 500)


def for_clients(message: str) -> str:
    """A message for who has no command line: where a flag was named, a field of a request is, or nothing.

    What is said of flags that change the server stands in brackets.
    """
    message = re.sub(r"--[a-z][a-z-]*", lambda flag: FIELDS.get(flag[0], flag[0]), message)
    return re.sub(r" \([^()]*--[a-z][^()]*\)", "", message)


def error_headers(error: BaseException) -> dict[str, str]:
    """What tells OpenAI's clients whether to ask again, which else they do after each 408, 429 and 5xx."""
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        return {"Retry-After": str(max(1, round(retry_after)))}
    # what took too long once takes too long again
    return {"x-should-retry": "false"} if isinstance(error, Timeout) else {}


def body_of(message: str, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
