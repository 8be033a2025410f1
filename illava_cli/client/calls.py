"""Calls to a server, tried again where that may help (`failures` says when)."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from illava_cli.client.failures import SHOWN, Passing, Unusable, failure
from illava_cli.client.server import Server
from illava_cli.errors import Cancelled, ServerError, Timeout
from illava_cli.media.download import library, without_credentials
from illava_cli.text import one_line

T = TypeVar("T")
ATTEMPTS = 6
BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 20.0
PATIENCE_S = 600.0  # with a server that is busy
CONNECT_S = 20.0
ANSWER_S = 600.0  # where the user sets no limit
MAX_BYTES = 64 << 20  # of an answer
HEADERS = {"User-Agent": "illava-cli", "Accept": "application/json", "Content-Type": "application/json"}


class Client:
    """Calls to one server; several threads may call at once."""

    def __init__(
        self,
        server: Server,
        *,
        seconds: float | None = None,
        connections: int = 8,
        stop: threading.Event | None = None,
    ):
        """
        Args:
            seconds: that an answer may take; a try that takes longer is the last.
            connections: calls at once.
            stop: set it, and nothing is tried again.

        Raises:
            ServerError: a proxy or a certificate of the environment cannot be used.
        """
        self.server, self.stop = server, stop or threading.Event()
        self.seconds = ANSWER_S if seconds is None else seconds
        self.retries = 0
        self._lock = threading.Lock()
        self._http = http = library()
        connecting = server.connecting()
        try:
            self._client = http.Client(
                **connecting | {"headers": HEADERS | connecting["headers"]},
                timeout=http.Timeout(self.seconds, connect=min(CONNECT_S, self.seconds), pool=None),
                limits=http.Limits(max_connections=connections, max_keepalive_connections=connections),
            )
        except (OSError, ValueError, ImportError) as error:
            raise ServerError(f"{server.url}: cannot be called ({_words(error)})") from None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """No more calls."""
        self._client.close()

    def models(self) -> list[str]:
        """The names of the models that the server has.

        Raises:
            ServerError: it does not say.
        """
        return self._called("GET", "/models", None, _names)

    def complete(
        self, body: dict[str, Any], read: Callable[[Any], T], stop: threading.Event | None = None
    ) -> T:
        """What `read` makes of the answer to a chat's request.

        Args:
            read: raises `ValueError`, with what the answer is or lacks, where it is none.
            stop: in the place of the client's.

        Raises:
            ServerError: it has no answer to this question; as `Unusable`, to none.
            UnknownField: it does not know a setting that was sent.
            Timeout: the answer took too long.
            Cancelled: `stop` was set before there was an answer.
        """
        return self._called("POST", "/chat/completions", body, read, stop)

    def _called(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[Any], T],
        stop: threading.Event | None = None,
    ) -> T:
        content = None if body is None else json.dumps(body).encode()
        number, counted, waited = 0, 0, 0.0
        while True:
            try:
                return self._once(method, path, content, body or {}, read)
            except Passing as caught:
                failed = caught
            number += 1
            wait = min(LONGEST_BACKOFF_S, BACKOFF_S * 2 ** min(number - 1, 10)) * random.uniform(0.5, 1.0)
            if failed.busy:
                wait = max(wait if failed.wait is None else failed.wait, BACKOFF_S)
                waited += wait
            else:
                counted += 1
            if counted == ATTEMPTS or waited > PATIENCE_S:
                raise failed.error
            with self._lock:
                self.retries += 1
            if (stop or self.stop).wait(wait):
                raise Cancelled("stopped before the server had answered")

    def _once(
        self, method: str, path: str, content: bytes | None, body: dict[str, Any], read: Callable[[Any], T]
    ) -> T:
        """One try.

        Raises:
            Passing: it may be made again.
        """
        http, url = self._http, self.server.url
        try:
            with self._client.stream(method, url + path, content=content) as response:
                data = self._content(response)
        except (http.ConnectError, http.ConnectTimeout) as error:
            raise Passing(Unusable(f"{url}: cannot be reached ({_words(error)})")) from None
        except http.TimeoutException:
            raise self._late() from None
        except (http.HTTPError, OSError) as error:
            raise Passing(ServerError(f"{url}: broke off its answer ({_words(error)})")) from None
        if response.status_code != 200:
            raise failure(url, response.status_code, response.headers, data, body)
        try:
            return read(_parsed(data))
        except ValueError as error:
            raise Passing(ServerError(f"{url}: its answer {error}")) from None

    def _content(self, response: Any) -> bytes:
        """All that comes, while it comes in time: a byte now and then is no answer."""
        data, started = bytearray(), time.monotonic()
        for piece in response.iter_bytes():
            data += piece
            if len(data) > MAX_BYTES:
                raise ServerError(f"{self.server.url}: its answer is over {MAX_BYTES >> 20} MiB")
            if time.monotonic() - started > self.seconds:
                raise self._late()
        return bytes(data)

    def _late(self) -> Timeout:
        return Timeout(f"{self.server.url}: no answer within {self.seconds:g} s (--timeout)")


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None


def _names(answer: Any) -> list[str]:
    try:
        return [str(one["id"]) for one in answer["data"]]
    except (KeyError, TypeError):
        raise ValueError("is no list of models") from None


def _words(error: Exception) -> str:
    return without_credentials(one_line(error))[:SHOWN] or type(error).__name__
