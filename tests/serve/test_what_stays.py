"""Nothing of a request stays once it is answered, but what is kept on purpose and within a bound."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import replace

import pytest

from illava_cli.engine.answer import Answer
from illava_cli.engine.features import FeatureCache
from illava_cli.engine.past import Past
from illava_cli.engine.record import Generation
from illava_cli.engine.request import Prepared, Turn
from illava_cli.models.cache import MergeCache
from illava_cli.openai.asked import Asked
from illava_cli.readers.job import Media
from illava_cli.serve.settings import ServeOptions
from tests.serve.asking_both import Question, asked, png

testclient = pytest.importorskip("starlette.testclient", reason="needs FastAPI: pip install 'illava[serve]'")

KINDS = (Answer, Asked, Generation, Media, MergeCache, Past, Prepared, Turn)


def alive():
    """How many there are of what a request makes."""
    gc.collect()
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, KINDS))


def requests(client, count, **fields):
    """So many, each with a picture of its own."""
    for number in range(count):
        question = Question("What is shown?", (png(40 + number, 40, seed=number),))
        for stream in (False, True):
            answer = client.post("/v1/chat/completions", json=asked(question, stream=stream, **fields))
            assert answer.status_code == 200
        broken = asked(question)
        broken["messages"][0]["content"][0]["image_url"]["url"] = "data:image/png;base64,AAAA"
        assert client.post("/v1/chat/completions", json=broken).status_code == 400


@pytest.fixture
def serving(tiny_session):
    """A client of a server that keeps so much of conversations and of pictures, and the session."""
    from illava_cli.serve.app import create_app

    clients = []

    def start(conversations_mb, pictures):
        session = replace(tiny_session, features=FeatureCache(pictures))
        app = create_app(session, ServeOptions(readers=1, conversations_mb=conversations_mb))
        clients.append(testclient.TestClient(app, "http://localhost"))
        return clients[-1].__enter__(), session

    yield start
    for client in clients:
        client.__exit__(None, None, None)


def test_what_is_not_kept_goes(serving):
    client, _ = serving(0, 0)
    requests(client, 2)
    before = alive()
    requests(client, 12)
    assert sum((alive() - before).values()) <= len(KINDS)  # of the last one, which failed, until the next


def test_what_is_kept_has_a_bound(serving):
    client, session = serving(2, 300_000)
    requests(client, 12)
    before = alive()
    requests(client, 12)
    assert sum((alive() - before).values()) <= 4  # an entry more or less
    assert 0 < session.features.bytes <= 300_000
    figures = client.get("/metrics").text
    (kept,) = [line for line in figures.splitlines() if line.startswith("illava_conversations_bytes")]
    assert 0 < float(kept.split()[1]) <= 2 * 2**20


def test_merge_maps_are_kept_up_to_a_bound(serving):
    from illava_cli.serve.maps import Maps

    maps = Maps(1000)
    names = [maps.put("x" * 300) for _ in range(20)]
    assert [name for name in names if maps.get(name)] == names[-3:]
    assert maps.bytes == 900
