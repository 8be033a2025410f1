"""One browser for all tests of the server's page, and a server that answers as a test tells it."""

from __future__ import annotations

import pytest

from tests.browser import Browser
from tests.serve.fake_server import FakeServer
from tests.serve.on_page import forgive


@pytest.fixture(scope="session")
def browser():
    with Browser() as browser:
        yield browser


@pytest.fixture
def server():
    with FakeServer() as server:
        yield server


@pytest.fixture
def page(browser, server):
    """Opens the page at 1280 x 900, light. It writes nothing to the console and asks its server only."""

    def show(drawn: str = "document.getElementById('model')?.innerText", **emulated) -> Browser:
        browser.emulate(**({"prefers_color_scheme": "light"} | emulated))
        browser.open(server.url, drawn)
        browser.js("sessionStorage.clear(), localStorage.clear()")
        return browser

    yield show
    asked = browser.requests()
    if server.refused:
        forgive(browser)
    assert browser.console() == []
    assert asked
    assert [url for url in asked if not url.startswith(server.url)] == []
    browser.js("sessionStorage.clear(), localStorage.clear()")


@pytest.fixture(scope="session")
def real():
    """The installed program, for tests that only ask."""
    from tests.serve.real_server import serving

    with serving("--served-name", "tiny") as server:
        yield server
        server.until_at_rest()


@pytest.fixture(scope="session")
def tiny_session():
    """The model that `real` serves, in this process."""
    from illava_cli.config import resolve
    from illava_cli.engine.opening import load

    return load(config=resolve("tiny", settings=["model.device=cpu"], environ={}))


@pytest.fixture(scope="session")
def long_answer(tiny_session):
    """Fields under which an answer has so many tokens: it may not end."""
    ends = dict.fromkeys(map(str, sorted(tiny_session.family.end_ids)), -100)
    return lambda tokens: {"max_tokens": tokens, "logit_bias": ends}
