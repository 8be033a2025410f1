"""The server's page in Chromium: the share of tokens, the unmodified answer, the merge map."""

from __future__ import annotations

from dataclasses import replace

import pytest

from illava_cli.visualize.page import render
from tests.serve.fake_server import MERGED_TEXT, PLAIN_TEXT, as_a_model, usage
from tests.serve.on_page import (
    IDLE,
    SAID,
    SLIDER,
    TROUBLE,
    ask,
    click,
    drop,
    png,
    slide,
    wait_for_requests,
    write,
)
from tests.visualize.sample_payload import image_payload

pytestmark = pytest.mark.needs("browser")
PICTURE = ("a.png", "image/png", png())
SHARE_SAID = "document.getElementById('share-said').textContent"
TABLE = (
    "Object.fromEntries([...document.querySelectorAll('tbody tr')].map(row =>"
    "[row.cells[0].innerText, [...row.cells].slice(1).map(cell => cell.innerText)]))"
)


def test_the_slider_asks_for_a_share_and_goes_back_to_the_server_s_own(page, server):
    page = page()
    assert page.js(SHARE_SAID) == page.js(
        f"{SLIDER}.ariaValueText ?? {SLIDER}.getAttribute('aria-valuetext')"
    )
    assert page.js(SHARE_SAID) == "as the server is set"
    slide(page, 35)
    assert page.js(SHARE_SAID) == "35 %"
    drop(page, PICTURE)
    ask(page)
    assert server.bodies[0]["keep"] == 0.35
    assert "preset" not in server.bodies[0]
    page.js("document.getElementById('share-reset').click()")
    assert page.js(SHARE_SAID) == "as the server is set"
    click(page, "Ask again")
    wait_for_requests(page, server, 2)
    page.wait(IDLE)
    assert "keep" not in server.bodies[1]


@pytest.mark.parametrize(("percent", "keep"), [(5, 0.05), (100, 1)])
def test_the_slider_reaches_from_a_twentieth_to_all(page, server, percent, keep):
    page = page()
    slide(page, percent)
    assert page.js(f"[{SLIDER}.min, {SLIDER}.max]") == ["5", "100"]
    ask(page)
    assert server.bodies[0]["keep"] == keep


def test_an_untouched_slider_shows_what_the_server_kept(page):
    page = page()
    drop(page, PICTURE)
    ask(page)
    assert page.js(f"{SLIDER}.value") == "30"
    assert page.js(SHARE_SAID) == "as the server is set"


def test_the_unmodified_answer_stands_beside_with_what_both_cost(page, server):
    page = page()
    drop(page, PICTURE)
    slide(page, 30)
    ask(page)
    click(page, "Unmodified answer")
    page.wait("document.querySelector('table')")
    merged, plain = server.bodies
    assert plain == {name: value for name, value in merged.items() if name != "keep"} | {"preset": "off"}
    assert page.js(SAID) == [MERGED_TEXT, PLAIN_TEXT]
    assert page.js("[...document.querySelectorAll('mark')].map(m => m.textContent)") == [
        "blue square.",
        "green square.",
    ]
    assert page.js("[...document.querySelectorAll('figcaption')].map(c => c.innerText)") == [
        "merged to 30 %",
        "unmodified model",
    ]
    table = page.js(TABLE)
    assert table["Visual tokens without merging"] == ["729", "729", ""]
    assert table["into the LLM"] == ["559", "729", "−23 %"]
    assert table["kept to its last layers"] == ["219", "729", "−70 %"]
    for name in ("First token", "Each further token", "In all"):
        assert all(cell.endswith("s") for cell in table[name][:2]), name
    assert (
        page.js("document.querySelector('.agreement').innerText")
        == "The answers differ where they are marked."
    )
    lefts = page.js(
        "[...document.querySelectorAll('.answers figure')].map(f => f.getBoundingClientRect().left)"
    )
    assert lefts[0] < lefts[1]


def test_equal_answers_are_said_to_be_equal(page, server):
    server.answer = lambda body: replace(as_a_model(body), pieces=("circle",), usage=usage(cached=412))
    page = page()
    ask(page)
    click(page, "Unmodified answer")
    page.wait("document.querySelector('table')")
    assert page.js("document.querySelector('.agreement').innerText") == "The same answer, letter by letter."
    assert page.js("document.querySelector('mark')") is None
    assert page.js(TABLE)["Tokens cached before"] == ["412", "412", ""]


@pytest.mark.parametrize(
    ("merged", "row", "cells"),
    [
        ({"cached": 412}, "Tokens cached before", ["412", "0", ""]),
        ({"reused": 1}, "Encoded before", ["1", "0", ""]),
    ],
)
def test_times_are_not_compared_where_one_answer_had_more_done_before(page, server, merged, row, cells):
    def answer(body):
        had = {"cached": 0, "reused": 0} | (merged if body.get("preset") != "off" else {})
        counted = usage(cached=had["cached"])
        counted["visual_tokens"]["reused"] = had["reused"]
        return replace(as_a_model(body), usage=counted)

    server.answer = answer
    page = page()
    drop(page, PICTURE)
    ask(page)
    click(page, "Unmodified answer")
    page.wait("document.querySelector('table')")
    table = page.js(TABLE)
    assert table[row] == cells
    assert table["First token"][2] == table["In all"][2] == ""
    assert "times are not compared" in page.js("document.querySelector('.notes').innerText")


def test_a_stopped_comparison_leaves_the_answer_alone(page, server):
    page = page()
    ask(page)
    server.answer = lambda body: replace(as_a_model(body), held=True)
    click(page, "Unmodified answer")
    server.release()
    page.wait(f"{SAID}.length === 2")
    page.press("escape")
    page.wait(IDLE)
    assert page.js(SAID) == [MERGED_TEXT]
    click(page, "Unmodified answer")


def test_the_merge_map_is_shown_in_a_frame_of_its_own(page, server):
    server.map = "<!doctype html><title>m</title><p>What merged<script>document.title = 'drawn'</script>"
    page = page()
    drop(page, PICTURE)
    slide(page, 40)
    ask(page)
    click(page, "Merge map")
    page.wait("document.querySelector('iframe')")
    asked, mapped = server.bodies
    assert mapped == asked | {"merge_map": True}
    assert page.js("document.querySelector('iframe').src") == f"{server.url}merge-maps/abc#light"
    with page.inside("iframe"):
        page.wait("document.title === 'drawn'")
        assert page.js("document.body.innerText") == "What merged"
        assert page.js("origin") == "null"
    assert page.js(SAID) == [MERGED_TEXT]


def test_the_map_in_its_frame_takes_the_page_s_theme_and_leaves_out_what_stands_there(page, server):
    server.map = render(image_payload())
    page = page(prefers_color_scheme="dark")
    drop(page, PICTURE)
    ask(page)
    click(page, "Merge map")
    page.wait("document.querySelector('iframe')")
    theme = "document.documentElement.dataset.theme"
    with page.inside("iframe"):
        page.wait(f"window.illava?.isDrawn && {theme} === 'dark'")
        page.js("document.getElementById('slider').focus()")
        page.press("home")
        page.wait("illava.shown.stage === 'tower in'")
        assert page.js("document.getElementById('answered').checkVisibility()") is False
    page.js("document.getElementById('theme').click()")
    with page.inside("iframe"):
        page.wait(f"{theme} === 'light'")
        assert page.js("illava.shown.stage") == "tower in"  # it was not loaded anew


def test_an_answer_without_a_map_says_so(page, server):
    server.answer = lambda body: replace(as_a_model(body), illava={})
    page = page()
    drop(page, PICTURE)
    ask(page)
    click(page, "Merge map")
    page.wait(TROUBLE)
    assert page.js(TROUBLE) == "The server drew no merge map."
    assert page.js("document.querySelector('.map')") is None


def test_the_map_is_offered_only_where_something_was_seen(page):
    page = page()
    ask(page)
    with pytest.raises(AssertionError, match="no such button"):
        click(page, "Merge map")


def test_what_an_answer_notes_is_shown(page, server):
    note = "photo.jpg was read at half its size"
    server.answer = lambda body: replace(as_a_model(body), illava={"notes": [note]}, finish="length")
    page = page()
    ask(page)
    notes = page.js("[...document.querySelectorAll('.notes li')].map(li => li.innerText)")
    assert notes == ["It was cut off at the server's limit of tokens.", note]


def test_selected_text_of_an_earlier_answer_stays_selected(page, server):
    page = page()
    ask(page, "One")
    server.answer = lambda body: replace(as_a_model(body), held=True)
    write(page, "Two")
    page.press("enter")
    server.release()
    page.wait(f"{SAID}[0] === 'A'")
    page.js("document.activeElement.blur()")
    page.js("getSelection().selectAllChildren(document.querySelector('.said'))")
    server.release(6)
    page.wait(IDLE)
    assert page.js("getSelection().toString()") == MERGED_TEXT
