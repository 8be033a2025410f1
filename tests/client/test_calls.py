"""Calls to a server: what is tried again, what is not, and what is said then."""

import threading
import time
from email.utils import formatdate

import pytest

from illava_cli.client import calls
from illava_cli.client.calls import ATTEMPTS, Client
from illava_cli.client.failures import UnknownField, Unusable, seconds_to_wait, told
from illava_cli.client.server import Server
from illava_cli.errors import Cancelled, ServerError, Timeout, UsageError
from tests.client.fake import break_off, completion, drop, error, reply, wait_for

BODY = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}


def text(answer):
    try:
        return answer["choices"][0]["message"]["content"]
    except (KeyError, TypeError):
        raise ValueError("has no choices") from None


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/", "http://h:8000/v1"),
        (" https://h/v1/ ", "https://h/v1"),
        ("https://h/openai", "https://h/openai/v1"),
        ("https://h/v1/chat/completions", "https://h/v1"),
        ("http://me:secret@h/v1", "http://h/v1"),
        ("http://[::1]:80", "http://[::1]/v1"),
    ],
)
def test_an_address_with_v1_or_without(address, url):
    server = Server.of(address)
    assert server.url == url
    assert server.login == (("me", "secret") if "secret" in address else None)
    assert "secret" not in repr(server)


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://h", "http://", "http://h/?a=b", "http://h:x"])
def test_what_is_no_address(address):
    with pytest.raises(UsageError, match="--server"):
        Server.of(address)
    with pytest.raises(UsageError, match="--server-key"):
        Server.of("http://h", "schl\u00fcssel")


def test_a_key_or_a_login_is_sent(server):
    for key, address, sent in (
        ("k", server.url, "Bearer k"),
        (None, server.url.replace("//", "//me:pw@"), "Basic bWU6cHc="),
        (None, server.url, None),
    ):
        with Client(Server.of(address, key)) as client:
            assert client.complete(BODY, text) == "Hi"
        path, headers, _ = server.seen.pop()
        assert (path, headers.get("Authorization")) == ("/v1/chat/completions", sent)


def test_the_names_of_its_models(server, client):
    assert client.models() == ["fake"]
    server.models = []
    assert client.models() == []


@pytest.mark.parametrize(
    "step",
    [
        drop,
        break_off,
        reply(500, b"<html>"),
        error(502, "bad gateway"),
        error(429, "slow down", Retry_After="0"),
        error(503, "busy", Retry_After="Mon, 01 Jan 2001 00:00:00 GMT"),
        reply(200, b"no JSON"),
        reply(200, b"[" * 100_000),
        reply(200, {"choices": 3}),
        reply(200, b""),
    ],
    ids=range(10),
)
def test_what_may_pass_is_tried_again(step, server, client):
    server.steps.extend([step] * 3)
    assert client.complete(BODY, text) == "Hi"
    assert len(server.asked) == 4
    assert client.retries == 3
    assert server.asked == [BODY] * 4


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (drop, "broke off its answer"),
        (break_off, "broke off its answer"),
        (error(500, "the\nmodel died"), "answered 500: the model died"),
        (reply(200, {"choices": []}), "its answer has no choices"),
        (reply(200, b"{"), "its answer is no JSON"),
    ],
)
def test_in_the_end_a_question_fails(step, message, server, client):
    server.default = step

    def read(answer):
        if not answer["choices"]:
            raise ValueError("has no choices")

    with pytest.raises(ServerError, match=message) as raised:
        client.complete(BODY, read)
    assert not isinstance(raised.value, Unusable)
    assert len(server.asked) == ATTEMPTS
    assert str(raised.value).startswith(server.url)


def test_a_busy_server_is_waited_for_as_it_says(server, client, monkeypatch):
    """Such tries do not count, up to a limit."""
    waits = []
    monkeypatch.setattr(client.stop, "wait", lambda seconds: waits.append(seconds))
    server.steps.extend([error(429, "busy", Retry_After="7")] * (2 * ATTEMPTS))
    assert client.complete(BODY, text) == "Hi"
    assert waits == [7.0] * (2 * ATTEMPTS)
    server.default = error(429, "still busy", Retry_After="250")
    with pytest.raises(ServerError, match="still busy"):
        client.complete(BODY, text)
    assert waits[2 * ATTEMPTS :] == [250.0, 250.0]


def test_later_each_time(server, client, monkeypatch):
    waits = []
    monkeypatch.setattr(client.stop, "wait", lambda seconds: waits.append(seconds))
    monkeypatch.setattr(calls, "BACKOFF_S", 1.0)
    monkeypatch.setattr(calls.random, "uniform", lambda low, high: high)
    server.default = drop
    with pytest.raises(ServerError):
        client.complete(BODY, text)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3.5"}, 3.5),
        ({"Retry-After": "-1"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
    ],
)
def test_what_retry_after_says(headers, seconds):
    assert seconds_to_wait(headers) == seconds


def test_retry_after_may_be_a_time():
    assert 50 < seconds_to_wait({"Retry-After": formatdate(time.time() + 60, usegmt=True)}) <= 60


@pytest.mark.parametrize(
    ("step", "kind", "message"),
    [
        (error(400, "the picture is broken"), ServerError, "answered 400: the picture is broken"),
        (reply(400, b"\xffplain"), ServerError, "plain"),
        (reply(418, {"detail": "teapot"}), ServerError, "418: teapot"),
        (error(401, "no key"), Unusable, "no key; give --server-key, or ILLAVA_SERVER_KEY"),
        (error(404, "no such model", "model_not_found"), Unusable, "no such model"),
        (error(429, "you have paid for no more", "insufficient_quota"), Unusable, "paid for no more"),
        (error(400, "Unknown parameter: 'preset'.", param="preset"), UnknownField, "leave out preset"),
        (
            reply(422, {"detail": [{"loc": ["body", "max_tiles"], "msg": "Extra inputs are not permitted"}]}),
            UnknownField,
            "leave out max_tiles",
        ),
        (error(400, "Unknown parameter: 'presets'."), ServerError, "presets"),
        (error(400, "max_tiles must be less than 37", param="max_tiles"), ServerError, "less than 37"),
    ],
)
def test_what_is_said_once(step, kind, message, server, client):
    server.default = step
    with pytest.raises(kind, match=message) as raised:
        client.complete(BODY | {"preset": "auto", "max_tiles": 40}, text)
    assert type(raised.value) is kind
    assert len(server.asked) == 1
    assert "\n" not in str(raised.value)


def test_a_server_that_is_not_there(impatient):
    with (
        Client(Server.of("http://127.0.0.1:9")) as client,
        pytest.raises(Unusable, match="cannot be reached"),
    ):
        client.complete(BODY, text)
    assert client.retries == ATTEMPTS - 1


def test_an_answer_that_takes_too_long_is_not_asked_for_again(server):
    over = threading.Event()
    server.default = wait_for(over)
    late = pytest.raises(Timeout, match=r"no answer within 0.2 s \(--timeout\)")
    with Client(Server.of(server.url), seconds=0.2) as client, late:
        client.complete(BODY, text)
    over.set()
    assert len(server.asked) == 1


def test_an_answer_that_drips_takes_too_long(server, monkeypatch):
    """A byte comes in time each time."""

    def drip(handler, body):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b" ")
            time.sleep(0.02)

    server.default = drip
    with Client(Server.of(server.url), seconds=0.3) as client, pytest.raises(Timeout):
        client.complete(BODY, text)


def test_an_answer_without_an_end_is_not_held(server, client, monkeypatch):
    monkeypatch.setattr(calls, "MAX_BYTES", 1000)
    server.default = reply(200, completion("x" * 2000))
    with pytest.raises(ServerError, match="is over 0 MiB"):
        client.complete(BODY, text)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"error": {"message": "no\\nroom"}}', "no room"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b"<h1>Bad gateway", "<h1>Bad gateway"),
        (b"[]", "[]"),
    ],
)
def test_the_words_of_an_error(data, words):
    assert told(data) == ("", "", words)


def test_no_proxy_stands_before_this_machine(server, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # where nobody listens
    with Client(Server.of(server.url), seconds=20) as client:
        assert client.complete(BODY, text) == "Hi"


def test_a_run_that_is_stopped_tries_no_more(server, client):
    def stopping(handler, body):
        client.stop.set()
        drop(handler, body)

    server.default = stopping
    with pytest.raises(Cancelled):
        client.complete(BODY, text)
    assert len(server.asked) == 1
