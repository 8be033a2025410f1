"""One browser for all tests of the page."""

from __future__ import annotations

import pytest

from illava_cli.visualize.page import render
from tests.browser import Browser
from tests.visualize.on_page import PAYLOADS


@pytest.fixture(scope="session")
def browser():
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, payload in PAYLOADS.items():
        (folder / f"{name}.html").write_text(render(payload), encoding="utf-8")
    return folder


@pytest.fixture
def page(browser, folder):
    """Opens a page at 1280 x 900, light. None writes to the console, none asks for anything."""

    def show(name: str, **emulated) -> Browser:
        browser.emulate(**({"prefers_color_scheme": "light"} | emulated))
        browser.open(folder / f"{name}.html")
        return browser

    yield show
    assert browser.console() == []
    assert browser.requests() == []
