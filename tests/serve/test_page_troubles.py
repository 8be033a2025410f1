"""The server's page in Chromium: errors in words, and keys."""

from __future__ import annotations

import pytest

from tests.serve.fake_server import MERGED_TEXT, Canned, FakeServer, as_a_model
from tests.serve.on_page import IDLE, QUESTION, SAID, TRAY, TROUBLE, ask, click, drop, png, write

pytestmark = pytest.mark.needs("browser")
PICTURE = ("a.png", "image/png", png())
KEY = "document.getElementById('key')"


@pytest.mark.parametrize(
    ("canned", "words"),
    [
        (Canned(status=400, error="max_tiles is above 36"), "max_tiles is above 36"),
        (
            Canned(status=429, error="The queue is full.", headers={"Retry-After": "7"}),
            "The queue is full. Ask again in 7 s.",
        ),
        (Canned(status=503, error="It is shutting down."), "It is shutting down. Ask again in a moment."),
        (Canned(status=500, error=""), "The server refused the question (status 500)."),
        (Canned(pieces=(), error="Out of memory"), "Out of memory"),
        (Canned(pieces=(), breaks=True), "The server broke off in the middle of its answer."),
    ],
)
def test_a_question_without_an_answer_is_taken_back_and_the_reason_told(page, server, canned, words):
    server.answer = lambda body: canned
    page = page()
    drop(page, PICTURE)
    write(page, "What is it?")
    page.press("enter")
    page.wait(TROUBLE)
    assert page.js(TROUBLE) == words
    assert page.js(f"{QUESTION}.value") == "What is it?"
    assert page.js(TRAY) == ["a.png"]
    assert page.js("document.querySelectorAll('.turn').length") == 0
    server.answer = as_a_model
    page.press("enter")
    page.wait(f"{SAID}.length && {IDLE}")
    assert page.js(SAID) == [MERGED_TEXT]
    assert page.js(TROUBLE) == ""


def test_an_answer_stays_where_asking_again_fails(page, server):
    page = page()
    ask(page)
    server.answer = lambda body: Canned(status=429, error="The queue is full.")
    click(page, "Ask again")
    page.wait(TROUBLE)
    assert page.js(SAID) == [MERGED_TEXT]
    assert page.js(f"{QUESTION}.value") == ""


def test_an_answer_without_a_word_says_so(page, server):
    server.answer = lambda body: Canned(pieces=())
    page = page()
    ask(page)
    assert page.js("document.querySelector('.notes').innerText") == "The model said nothing."


def test_what_came_before_an_error_stays(page, server):
    server.answer = lambda body: Canned(pieces=("A red",), error="Out of memory")
    page = page()
    ask(page)
    assert page.js(SAID) == ["A red"]
    assert page.js(TROUBLE) == "Out of memory"
    assert page.js("document.querySelector('.notes').innerText") == "The answer broke off here."


def test_a_server_that_is_gone_is_told(browser):
    with FakeServer() as server:
        browser.emulate()
        browser.open(server.url, "document.getElementById('model')?.innerText")
    write(browser, "Hello")
    browser.press("enter")
    browser.wait(TROUBLE)
    assert browser.js(TROUBLE) == "The server does not answer. Is it still running?"
    assert browser.js(f"{QUESTION}.value") == "Hello"
    browser.open("about:blank", "true")


def test_a_conversation_above_the_server_s_body_is_not_sent(page, server):
    server.limits = {"body_bytes": 60_000}
    page = page()
    pictures = [(f"{n}.png", "image/png", png(100, 100, seed=n)) for n in range(2)]
    drop(page, *pictures)
    write(page, "Hello")
    page.press("enter")
    page.wait(TROUBLE)
    assert page.js(TROUBLE) == "The conversation has 81 kB with its media; the server takes 60 kB."
    assert server.asked == []
    assert page.js(TRAY) == ["0.png", "1.png"]


def test_a_key_is_asked_for_only_where_the_server_wants_one(page, server):
    opened = page()
    assert opened.js(f"{KEY}.checkVisibility()") is False
    server.key = "secret"
    opened = page(f"{KEY}?.checkVisibility()")
    assert opened.js("document.activeElement.id") == "key-field"
    opened.press(*"wrong")
    opened.press("enter")
    opened.wait(f"{KEY}.checkVisibility() && {TROUBLE}")
    assert opened.js(TROUBLE) == "A valid API key is needed"
    opened.press(*"secret")
    opened.press("enter")
    opened.wait("document.activeElement.id === 'question'")
    assert opened.js(f"{KEY}.checkVisibility()") is False
    assert opened.js(TROUBLE) == ""
    ask(opened)
    assert server.asked[0]["headers"]["Authorization"] == "Bearer secret"
    assert opened.js("JSON.stringify(localStorage) + document.cookie") == "{}"


def test_a_key_that_is_wanted_later_is_asked_for_and_the_question_kept(page, server):
    page = page()
    server.key = "secret"
    write(page, "Hello")
    page.press("enter")
    page.wait(f"{KEY}.checkVisibility()")
    page.press(*"secret")
    page.press("enter")
    page.wait("document.activeElement.id === 'question'")
    assert page.js(f"{QUESTION}.value") == "Hello"
    page.press("enter")
    page.wait(f"{SAID}.length && {IDLE}")
    assert page.js(SAID) == [MERGED_TEXT]
