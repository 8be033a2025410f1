"""The tables of hostile media and bytes against the whole server: others are answered meanwhile."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serve import hostile, hostile_wire
from tests.serve.asking_both import QUESTIONS, asked
from tests.serve.hostile import MEDIA, Medium
from tests.serve.hostile_wire import KEY, WIRE, Wire
from tests.serve.real_server import PATIENCE_S, serving

pytest.importorskip("openai", reason="needs openai: pip install openai")

IMAGE = QUESTIONS["image"]
OURS = (400, 401, 403, 405, 408, 413, 415)  # statuses that come with a body in OpenAI's form


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    with hostile.scene(tmp_path_factory.mktemp("scene")) as scene:
        yield scene


@pytest.fixture(scope="module")
def server(scene):
    """The server with the tables' limits."""
    flags = ["--readers", "3", "--media-memory", str(hostile.MEMORY_MB), "--max-media", "2", "--api-key", KEY]
    flags += ["--media-timeout", str(hostile.JOB_S), "--media-root", str(scene.root)]
    flags += ["--allow-hosts", scene.site.host, "--num-frames", "2", "--max-body", "8"]
    with serving(*flags) as server:
        yield server


def body_of(case: Medium, scene) -> dict:
    kind = f"{case.kind}_url"
    part = {"type": kind, kind: {"url": case.source(scene)}}
    return {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "What is shown?"}]}]}


def test_every_hostile_medium_is_refused_while_another_client_is_answered(server, scene):
    headers = {"authorization": f"Bearer {KEY}"}
    failed: list[str] = []
    answered: list[str] = []

    async def attack(client, case, turn):
        async with turn:
            answer = await client.post("/v1/chat/completions", json=body_of(case, scene))
        said = answer.json().get("error", {}).get("message", "")
        fits = re.search(f"{case.words}|must be an http, https, data or file URL|has no url", said)
        if (
            answer.status_code not in (400, 504)
            or not fits
            or len(said) > 600
            or "\n" in said
            or "(--" in said
        ):
            failed.append(f"{case.name}: {answer.status_code} {answer.text[:300]}")

    async def ask(client, over):
        while not over.is_set():
            answer = await client.post("/v1/chat/completions", json=asked(IMAGE))
            answered.append(answer.json()["choices"][0]["message"]["content"])

    async def all_of_it():
        over, turn = asyncio.Event(), asyncio.Semaphore(2)
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S, headers=headers) as client:
            other = asyncio.create_task(ask(client, over))
            await asyncio.gather(*(attack(client, case, turn) for case in MEDIA))
            over.set()
            await other

    asyncio.run(all_of_it())
    assert failed == []
    assert len(answered) > 5
    assert set(answered) == {"circle"}
    assert scene.inner.asked == []
    server.until_figures(
        lambda figures: figures["in_flight"] == figures["media_held_bytes"] == 0, headers=headers
    )
    assert "Traceback" not in server.said


@pytest.fixture(scope="module")
def brief():
    """The program with the limits that the table of bytes has."""
    with serving("--api-key", KEY, "--max-body", "1") as server:
        yield server


def test_a_reader_that_is_killed_costs_its_request_only(server, scene):
    headers = {"authorization": f"Bearer {KEY}"}
    silent = Medium("silent", lambda scene: scene.site.silent("/killed"), "")
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(server.post, json=body_of(silent, scene), headers=headers)
        server.until_figures(lambda figures: figures["readers_busy"] == 1, headers=headers)
        server.until(lambda: ("/killed",) in [(path,) for path, _ in scene.site.asked])
        for pid in server.children():
            import os

            os.kill(pid, signal.SIGKILL)
        answer = asking.result()
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_media")
    assert "crashed (SIGKILL)" in answer.json()["error"]["message"]
    for _ in range(4):  # each of them starts again
        assert server.post(json=asked(IMAGE), headers=headers).status_code == 200


def test_hostile_bytes_are_answered_by_their_status_while_another_client_is(brief):
    headers = {"authorization": f"Bearer {KEY}"}
    # what waits for a time to be up is the gate's own test: it would take the program's minute
    slow = (408, 0)
    cases = [case for case in WIRE if not set(case.status) & set(slow)]
    assert len(cases) > 35

    def attack(case: Wire) -> str | None:
        found = hostile_wire.answer(brief.port, case)
        status = int(found[9:12] or 0)
        # the table's own application takes any JSON
        right = (*case.status, 400) if 200 in case.status else case.status
        if status not in right or KEY.encode() in found:
            return f"{case.name}: {found[:300]!r}"
        if status in OURS and set(json.loads(found.partition(b"\r\n\r\n")[2])["error"]) != {
            "message",
            "type",
            "param",
            "code",
        }:
            return f"{case.name}: {found[:300]!r}"
        return None

    with ThreadPoolExecutor(3) as threads:
        attacks = [threads.submit(attack, case) for case in cases]
        while not all(one.done() for one in attacks):
            assert brief.post(json=asked(IMAGE), headers=headers).status_code == 200
    assert [one.result() for one in attacks if one.result()] == []
    assert "Traceback" not in brief.said
    assert Path(f"/proc/{brief.process.pid}").exists()
