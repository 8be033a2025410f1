"""A fake server, and a client that does not wait long."""

import pytest

from illava_cli.client import calls
from illava_cli.client.calls import Client
from illava_cli.client.server import Server
from tests.client.fake import fake


@pytest.fixture
def impatient(monkeypatch):
    """Tries follow one another at once."""
    monkeypatch.setattr(calls, "BACKOFF_S", 0.001)


@pytest.fixture
def server(impatient):
    with fake() as server:
        yield server


@pytest.fixture
def client(server):
    with Client(Server.of(server.url), seconds=20) as client:
        yield client
