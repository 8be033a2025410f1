"""The gate before an application: bodies, keys, names, other sites' pages, and what browsers are told."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from illava_cli.errors import UsageError
from illava_cli.serve.gate import Gate, names_of
from illava_cli.serve.keys import Keys

CHAT = "/v1/chat/completions"


async def echo(request: Request) -> JSONResponse:
    return JSONResponse(await request.json() if request.method == "POST" else {})


PATHS = ("/", "/health", "/ready", "/page/a.js", "/merge-maps/x", "/metrics", "/v1/models", "/docs", CHAT)
APP = Starlette(routes=[Route(path, echo, methods=["GET", "POST", "DELETE"]) for path in PATHS])


def asked(gate: Gate, *requests: tuple, **options) -> list[httpx.Response]:
    """The answers to (method, path, options) of a client at http://localhost."""

    async def main():
        transport = httpx.ASGITransport(app=gate.around(APP), **options)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return [await client.request(method, path, **more) for method, path, more in requests]

    return asyncio.run(main())


def statuses(gate: Gate, *requests: tuple) -> list[int]:
    return [response.status_code for response in asked(gate, *requests)]


def bearer(key: str) -> dict:
    return {"headers": {"Authorization": f"Bearer {key}"}}


# --- keys -------------------------------------------------------------------------------------


def test_each_of_several_keys_opens_and_nothing_else_does():
    gate = Gate(keys=Keys(["one", "two"]))
    given = ["one", "two", "One", "on", "one1", "two one", ""]
    found = statuses(gate, *(("GET", "/v1/models", bearer(key)) for key in given), ("GET", "/v1/models", {}))
    assert found == [200, 200, 401, 401, 401, 401, 401, 401]
    kinds = [
        {"headers": {"Authorization": text}} for text in ("bearer one", "BEARER  one ", "Basic one", "one")
    ]
    assert statuses(gate, *(("GET", "/v1/models", kind) for kind in kinds)) == [200, 200, 401, 401]


def test_what_is_open_without_a_key():
    gate = Gate(keys=Keys(["one"]))
    for path in ("/", "/health", "/ready", "/page/a.js", "/merge-maps/x"):
        assert statuses(gate, ("GET", path, {}), ("POST", path, {"json": {}})) == [200, 401]
    closed = (
        "/metrics",
        "/v1/models",
        "/docs",
        "/page/../v1/models",
        "/page/%2e%2e/v1/models",
        "/pages",
        "/page",
    )
    assert statuses(gate, *(("GET", path, {}) for path in closed)) == [401] * len(closed)


def test_a_refusal_is_in_openais_form_and_tells_no_key():
    (refused,) = asked(Gate(keys=Keys(["secret-one"])), ("GET", "/v1/models", bearer("wrong-one")))
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert "-one" not in refused.text


def test_no_keys_are_open_to_all():
    assert statuses(Gate(), ("GET", "/v1/models", {}), ("GET", "/v1/models", bearer("x"))) == [200, 200]


# --- names ------------------------------------------------------------------------------------


def test_who_is_bound_to_loopback_answers_to_its_names_only():
    gate = Gate(names=names_of("box.localhost"))
    fine = [
        "localhost",
        "localhost:8000",
        "LOCALHOST.",
        "box.localhost:1",
        "127.0.0.1:8000",
        "[::1]:8000",
        "10.0.0.1",
    ]
    bad = ["evil.example", "localhost.evil.example", "evil.localhost", "127.0.0.1.evil.example", "0x7f.1", ""]
    bad += ["localhost@evil.example", "localhost:8000:evil", "[::1", "::1", "localhost/"]
    hosts = [("GET", "/", {"headers": {"Host": host}}) for host in fine + bad]
    assert statuses(gate, *hosts) == [200] * len(fine) + [403] * len(bad)


def test_whose_names_are_checked():
    assert names_of("127.0.0.1") == {"localhost", "127.0.0.1"}
    assert names_of("[::1]") == {"localhost", "::1"}
    assert names_of("LOCALHOST") == {"localhost"}
    assert names_of("0.0.0.0") is names_of("::") is names_of("10.0.0.1") is names_of("box") is None
    assert statuses(Gate(names=None), ("GET", "/", {"headers": {"Host": "evil.example"}})) == [200]


# --- bodies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("text/plain;application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonp", 415),
        ("", 415),
    ],
)
def test_bodies_are_json(kind, status):
    sent = {"content": b"{}", "headers": {"Content-Type": kind}}
    assert statuses(Gate(), ("POST", CHAT, sent)) == [status]


def test_bodies_have_a_bound_announced_or_not():
    gate = Gate(max_body=100)

    async def chunks(size):
        for _ in range(size // 10):
            yield b" " * 10

    json_type = {"Content-Type": "application/json"}
    for size, status in ((98, 200), (99, 413)):
        announced = {"content": b'""' + b" " * size, "headers": json_type}
        (answer,) = asked(gate, ("POST", CHAT, announced))
        assert answer.status_code == status
    assert answer.headers["connection"] == "close"
    assert answer.json()["error"]["message"].startswith("the body is over 100 bytes")
    assert statuses(gate, ("POST", CHAT, {"content": chunks(110), "headers": json_type})) == [413]


async def through(gate: Gate, messages: list, app=None) -> list[dict]:
    """What is sent for a POST whose body comes in these messages; None waits for ever."""
    sent = []

    async def receive():
        message = messages.pop(0) if messages else None
        if message is None:
            await asyncio.Event().wait()
        return message

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": CHAT,
        "headers": [(b"content-type", b"application/json")],
    }
    await gate.around(app or APP)(scope, receive, send)
    return sent


def part(body: bytes, more: bool = False) -> dict:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_has_to_arrive_in_time():
    sent = asyncio.run(through(Gate(body_s=0.01), [part(b"{", True), None]))
    assert sent[0]["status"] == 408


def test_who_goes_away_in_the_middle_is_not_answered():
    assert asyncio.run(through(Gate(), [part(b"{", True), {"type": "http.disconnect"}])) == []


def test_the_application_gets_the_body_once_and_then_what_happens_next():
    seen = []

    async def app(scope, receive, send):
        seen.extend([await receive(), await receive()])

    gone = {"type": "http.disconnect"}
    asyncio.run(through(Gate(), [part(b"{", True), part(b"}"), gone], app))
    assert seen == [part(b"{}"), gone]


def test_all_bodies_together_have_a_bound_and_none_is_counted_for_longer_than_it_is_held():
    inside, leave = asyncio.Event(), asyncio.Event()

    async def slow(scope, receive, send):
        await receive()
        inside.set()
        await leave.wait()
        raise RuntimeError("a bug")

    async def fine(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def app(scope, receive, send):
        await (fine if inside.is_set() else slow)(scope, receive, send)

    async def main():
        door = Gate(max_held=100, max_body=80).around(app)
        gate = type("Same", (), {"around": lambda self, app: door})()
        first = asyncio.create_task(through(gate, [part(b"x" * 60)]))
        await inside.wait()
        over = await through(gate, [part(b"x" * 60)])
        small = await through(gate, [part(b"x" * 40)])
        await through(gate, [part(b"x" * 40, True), {"type": "http.disconnect"}])
        leave.set()
        with pytest.raises(RuntimeError):
            await first
        return over[0], small[0], (await through(gate, [part(b"x" * 80)]))[0]

    over, small, later = asyncio.run(main())
    assert over["status"] == 503
    assert dict(over["headers"])[b"retry-after"] == b"5"
    assert small["status"] == later["status"] == 200


# --- browsers ---------------------------------------------------------------------------------


def test_other_sites_are_let_in_only_where_they_were_asked_for():
    ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    preflight = (
        "OPTIONS",
        CHAT,
        {"headers": ask | {"Access-Control-Request-Headers": "authorization,content-type"}},
    )
    post = ("POST", CHAT, {"json": {}, "headers": {"Origin": "https://app.example"}})
    closed = asked(Gate(), preflight, post)
    assert closed[0].status_code == 405
    assert not [name for answer in closed for name in answer.headers if name.startswith("access-control")]
    gate = Gate(origins=("https://app.example",), keys=Keys(["one"]))
    let, refused = asked(gate, preflight, post)
    assert let.status_code == 200
    assert let.headers["access-control-allow-origin"] == "https://app.example"
    assert "authorization" in let.headers["access-control-allow-headers"]
    # its page may read why
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (
        401,
        "https://app.example",
    )
    (other,) = asked(gate, ("OPTIONS", CHAT, {"headers": ask | {"Origin": "https://evil.example"}}))
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("origin", ["https://a/", "a", "null", "https://u@a", "", "https://*.a/b", "http://"])
def test_what_is_no_origin(origin):
    with pytest.raises(UsageError, match="is no origin"):
        Gate(origins=(origin,))
    assert Gate(origins=("*", "http://localhost:3000", "chrome-extension://abc"))


def test_what_browsers_are_told():
    for answer in asked(Gate(keys=Keys(["x"])), ("GET", "/", {}), ("GET", "/v1/models", {})):
        told = answer.headers
        assert (told["x-content-type-options"], told["referrer-policy"]) == ("nosniff", "no-referrer")
        policy = told["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    (docs,) = asked(Gate(), ("GET", "/docs", {}))
    assert "script-src 'self' 'unsafe-inline'" in docs.headers["content-security-policy"]


def test_methods_and_sockets():
    found = asked(Gate(), *((method, CHAT, {}) for method in ("TRACE", "BREW", "PUT", "CONNECT")))
    assert [answer.status_code for answer in found] == [405] * 4
    assert "POST" in found[0].headers["allow"]
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Gate().around(APP)({"type": "websocket", "path": "/"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_prefix_of_a_proxy_is_no_part_of_a_path():
    keys = Gate(keys=Keys(["one"]))
    found = asked(keys, ("GET", "/ai/v1/models", {}), ("GET", "/ai/health", {}), root_path="/ai")
    assert [answer.status_code for answer in found] == [401, 200]
