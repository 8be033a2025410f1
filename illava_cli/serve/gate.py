"""What stands before the application: whom it answers, by which name, and what browsers may do with it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from illava_cli.errors import UsageError
from illava_cli.openai.errors import RequestError
from illava_cli.serve.body import Bodies
from illava_cli.serve.keys import Keys
from illava_cli.serve.refusals import path_of, refuse

METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
OPEN = ("/", "/health", "/ready")  # without a key: the page asks for one, and watchdogs have none
OPEN_BELOW = ("/page/", "/merge-maps/")  # a picture of a page cannot send a key; a map's id is not guessed

OWN = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# the pages that FastAPI makes of the routes have a script within, and ReDoc a worker
DOCS = f"{OWN}; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; worker-src 'self' blob:"
DOCS_PATHS = ("/docs", "/redoc")
TOLD = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "x-frame-options": "DENY"}


@dataclass(frozen=True)
class Gate:
    """What a server lets through.

    Args:
        keys: that open it; none opens it to all.
        names: it answers to, see `names_of`; None: to any.
        origins: of other sites' pages that browsers let read answers; `*` is all.
        max_body: bytes of a request's body.
        max_held: bytes of all bodies that are held at once.
        body_s: seconds for a body to arrive.

    Raises:
        UsageError: an origin is none.
    """

    keys: Keys = field(default_factory=Keys)
    names: frozenset[str] | None = None
    origins: tuple[str, ...] = ()
    max_body: int = 64 * 2**20
    max_held: int = 2**30
    body_s: float = 60.0

    def __post_init__(self) -> None:
        for origin in self.origins:
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s?#@]+", origin):
                raise UsageError(
                    f"{origin!r} is no origin: write https://host or http://host:port, without a path, or *"
                )

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application behind the gate."""
        app = Bodies(app, self.max_body, self.max_held, self.body_s)
        app = _KeyCheck(app, self.keys)
        if self.origins:
            # outside the keys: browsers ask whether they may send one, without one
            app = CORSMiddleware(
                app,
                allow_origins=self.origins,
                allow_methods=METHODS,
                allow_headers=["*"],
                expose_headers=["Retry-After", "x-should-retry"],
            )
        return _PageHeaders(_Entrance(app, self.names))


def names_of(bound: str) -> frozenset[str] | None:
    """The names that a server bound to `bound` answers to, beside addresses; None: to any.

    A page may give its own name the address of this machine, and would then be read by browsers as if the
    server's answers were its own; what is bound to loopback counts on not being reached by others' pages.
    """
    bound = bound.lower().strip("[]")
    try:
        local = ip_address(bound).is_loopback
    except ValueError:
        local = bound == "localhost" or bound.endswith(".localhost")
    return frozenset({"localhost", bound}) if local else None


class _Entrance:
    """Lets in requests by HTTP, by methods that there are, to names of the server."""

    def __init__(self, app: ASGIApp, names: frozenset[str] | None):
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        error = self._unwanted(scope) if scope["type"] == "http" else None
        if error is not None:
            await refuse(scope, receive, send, error, [("allow", ", ".join(METHODS))])
            return
        await self.app(scope, receive, send)

    def _unwanted(self, scope: Scope) -> RequestError | None:
        host = Headers(scope=scope).get("host")
        # without one it is no browser, and only those are led astray
        if self.names is not None and host is not None and not self._is_ours(host):
            return RequestError(
                "this server answers to localhost and to its address, not to other names",
                code="unknown_host",
                status=403,
            )
        if scope["method"] not in METHODS:
            return RequestError("there is no such method here", code="method_not_allowed", status=405)
        return None

    def _is_ours(self, host: str) -> bool:
        found = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]*))(?::\d*)?", host.strip().lower())
        if found is None:
            return False
        name = (found[1] or found[2]).removesuffix(".")
        try:
            ip_address(name)
        except ValueError:
            return name in self.names
        return True


class _KeyCheck:
    """Lets through who has one of the keys, and all to what is open."""

    def __init__(self, app: ASGIApp, keys: Keys):
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self.keys or _is_open(scope):
            await self.app(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        kind, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if kind.lower() == b"bearer" and self.keys.opens(key.strip()):
            await self.app(scope, receive, send)
            return
        words = "this API key is not known here" if given else "an API key is needed"
        error = RequestError(f"{words}: send Authorization: Bearer KEY", code="invalid_api_key", status=401)
        await refuse(scope, receive, send, error, [("www-authenticate", "Bearer")])


def _is_open(scope: Scope) -> bool:
    path = path_of(scope)
    below = path.startswith(OPEN_BELOW) and ".." not in path.split("/")
    return scope["method"] in ("GET", "HEAD") and (path in OPEN or below)


class _PageHeaders:
    """Tells browsers to take nothing from elsewhere, to show the page in no other, and to guess no types."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        policy = DOCS if path_of(scope).startswith(DOCS_PATHS) else OWN

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**TOLD, "content-security-policy": policy}.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, told)
