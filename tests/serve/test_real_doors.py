"""What else the server answers, whom it lets in, and what it says of them: nothing."""

from __future__ import annotations

import json
import os
import re

import httpx
import pytest

from tests.serve.asking_both import QUESTIONS, SHAPES, Question, asked
from tests.serve.bombs import data_url
from tests.serve.real_server import serving

pytest.importorskip("openai", reason="needs openai: pip install openai")

KEYS = (
    "key-of-the-command-line",
    "key-of-the-environment",
    "first-key-of-the-file",
    "second-key-of-the-file",
)


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A server that takes keys, from each place where they may be."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"# keys\n{KEYS[2]}\n\n{KEYS[3]}\n")
    file.chmod(0o600)
    env = os.environ | {"ILLAVA_API_KEY": KEYS[1]}
    with serving("--api-key", KEYS[0], "--api-key-file", str(file), env=env) as server:
        yield server


def test_each_key_opens_it(locked):
    for key in KEYS:
        assert [model.id for model in locked.client(key).models.list()] == ["tiny"]


@pytest.mark.parametrize(
    "path", ["/v1/models", "/metrics", "/version", "/docs", "/openapi.json", "/v1/chat/completions"]
)
def test_without_a_key_it_stays_shut(locked, path):
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": KEYS[0]}):
        answer = locked.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"


def test_what_watchdogs_and_the_page_need_is_open(locked):
    assert locked.get("/health").json() == {"status": "ok"}
    assert locked.get("/ready").json() == {"status": "ready"}
    page = locked.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for link in re.findall(r'(?:src|href)="(/?page/[^"]+)"', page.text):
        assert locked.get(f"/{link.lstrip('/')}").status_code == 200


def test_the_versions(real):
    assert set(real.get("/version").json()) == {"version", "torch", "transformers"}


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_description_asks_no_one_else(real, path):
    page = real.get(path)
    assert page.status_code == 200
    named = re.findall(r'(?:src|href|url)\s*[=:]\s*["\']([^"\']+)', page.text)
    assert named
    for place in named:
        assert place.startswith("/"), place
        if place.endswith((".js", ".css", ".json", ".png")):
            assert real.get(place).status_code == 200, place


def test_the_description_names_what_a_request_may_say(real):
    paths = real.get("/openapi.json").json()["paths"]
    assert {"/v1/chat/completions", "/v1/responses", "/v1/models", "/metrics"} <= set(paths)
    content = paths["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]
    assert {"messages", "keep", "preset", "temperature"} <= set(content["schema"]["properties"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/v1/completions", 404),
        ("GET", "/v1/models/other", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("PUT", "/v1/responses", 405),
        ("GET", "/page/none.js", 404),
        ("GET", "/page/../app.py", 404),
        ("GET", "/page/%2e%2e/app.py", 404),
    ],
)
def test_what_there_is_not_is_said_in_openais_form(real, method, path, status):
    with httpx.Client(timeout=60) as client:
        request = client.build_request(method, real.url, json={} if method in ("POST", "PUT") else None)
        request.url = request.url.copy_with(raw_path=path.encode())
        answer = client.send(request)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff", b'{"messages":', b'{"a":' * 5000, b"1" * 5000, b"{}"],
)
def test_what_is_no_request_is_refused(real, body):
    for path in ("/v1/chat/completions", "/v1/responses"):
        answer = real.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_neither_prompts_nor_keys_nor_media_are_in_what_it_writes(locked):
    client = locked.client(KEYS[1])
    secret = Question("MARKED-PROMPT what shape is the red one?", (SHAPES,))
    client.chat.completions.create(**asked(secret))
    list(client.chat.completions.create(**asked(secret, stream=True)))
    header = {"authorization": f"Bearer {KEYS[2]}"}
    for url in ("http://marked-host.invalid/a.png", "file:///marked-path.png", data_url(b"MARKED-BYTES")):
        body = asked(secret)
        body["messages"][0]["content"][0]["image_url"]["url"] = url
        assert locked.post(json=body, headers=header).status_code == 400
    assert locked.post(json=asked(secret) | {"MARKED-FIELD": 1}, headers=header).status_code == 400
    assert locked.get("/MARKED-PATH", headers={"authorization": "Bearer MARKED-KEY"}).status_code == 401
    said = locked.said
    assert len(re.findall(r"/v1/chat/completions \d{3}", said)) >= 6
    for word in ("marked", "key-of", "shape is", *QUESTIONS["text"].text.split()[-1:]):
        assert word not in said.lower()
    assert json.dumps(locked.figures(headers=header)).lower().count("marked") == 0
