"""The page and the real server, in Chromium: what both say must fit, which a fake server cannot tell."""

from __future__ import annotations

import json
import sys
from itertools import pairwise

import pytest

from tests.browser import Browser
from tests.processes import ROOT, run
from tests.serve.on_page import (
    IDLE,
    SAID,
    TRAY,
    TROUBLE,
    WIDTH,
    ask,
    click,
    drop,
    forgive,
    slide,
    write,
)
from tests.serve.real_server import RealServer, serving

pytestmark = pytest.mark.needs("browser")
ASSETS = ROOT / "illava_cli" / "assets"
PICTURE = ("shapes.jpg", "image/jpeg", (ASSETS / "shapes.jpg").read_bytes())
CLIP = ASSETS / "shapes.mp4"
QUESTION = "What shape is the red one?"
MODEL = "document.getElementById('model')?.innerText"
COST = "document.querySelector('.turn:last-child .cost').innerText"
CELL = (
    "(name => [...[...document.querySelectorAll('.turn:last-child tbody tr')]"
    ".find(row => row.cells[0].innerText === name).cells].slice(1).map(cell => cell.innerText))"
)
# the share of the pixels of a map's largest canvas that something is drawn on, and how many colours they have
INK = """(() => {
    const canvas = [...document.querySelectorAll('canvas')].sort((a, b) => b.width - a.width)[0];
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const drawn = [...new Uint32Array(data.buffer)].filter(pixel => pixel >>> 24);
    return [drawn.length / (data.length / 4), new Set(drawn).size];
})()"""
# what the last answer was, each time that it changed
WATCH = """(() => {
    window.pieces = [];
    new MutationObserver(() => {
        const said = document.querySelector('.said')?.textContent;
        if (said && pieces.at(-1) !== said) pieces.push(said);
    }).observe(document.getElementById('turns'), { subtree: true, childList: true, characterData: true });
    return true;
})()"""


@pytest.fixture
def page(browser, real):
    """Opens the page of the real server. No console message, nothing asked elsewhere."""

    def show(server: RealServer = real, drawn: str = MODEL, **emulated) -> Browser:
        browser.emulate(**({"prefers_color_scheme": "light"} | emulated))
        browser.open(f"{server.url}/", drawn)
        browser.js("sessionStorage.clear(), localStorage.clear()")
        show.origin = f"{server.url}/"
        return browser

    show.refused = False
    yield show
    asked = browser.requests()
    if show.refused:
        forgive(browser)
    assert browser.console() == []
    assert asked
    assert [url for url in asked if not url.startswith(show.origin)] == []
    browser.js("sessionStorage.clear(), localStorage.clear()")


def test_a_dropped_picture_is_answered_in_pieces(page):
    page = page()
    assert page.js(MODEL) == "tiny · preset auto"
    drop(page, PICTURE)
    assert page.js(TRAY) == ["shapes.jpg"]
    page.js(WATCH)
    ask(page, "Which colours are there?")
    (said,) = page.js(SAID)
    pieces = page.js("pieces")
    assert pieces[-1] == said
    assert all(later.startswith(earlier) for earlier, later in pairwise(pieces))
    assert "251 of 744 visual tokens (34 %)" in page.js(COST)


def test_the_slider_decides_what_the_server_keeps(page):
    page = page()
    drop(page, PICTURE)
    slide(page, 15)
    ask(page, QUESTION)
    assert page.js(SAID) == ["circle"]
    kept = int(page.js(COST).split(" of 744 ")[0])
    assert 0.1 < kept / 744 < 0.2
    slide(page, 100)
    click(page, "Ask again")
    page.wait(IDLE)
    assert "744 of 744 visual tokens (100 %)" in page.js(COST)


def test_the_unmodified_answer_stands_beside(page):
    page = page()
    drop(page, PICTURE)
    ask(page, QUESTION)
    click(page, "Unmodified answer")
    page.wait(f"document.querySelector('table') && {IDLE}")
    assert page.js(SAID) == ["circle", "circle"]
    assert page.js("document.querySelector('.agreement').innerText") == "The same answer, letter by letter."
    assert page.js(f"{CELL}('kept to its last layers')") == ["251", "744", "−66 %"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_merge_map_is_drawn_in_its_frame(page, theme):
    page = page(prefers_color_scheme=theme)
    drop(page, PICTURE)
    ask(page, QUESTION)
    click(page, "Merge map")
    page.wait(f"document.querySelector('iframe') && {IDLE}")
    assert "/merge-maps/" in page.js("document.querySelector('iframe').src")
    with page.inside("iframe"):
        page.wait("window.illava?.isDrawn")
        # the policy that came with it: its own script runs, cut off from this server
        assert page.js("origin") == "null"
        share, colours = page.js(INK)
        assert share > 0.5
        assert colours > 100
        assert page.js("document.documentElement.dataset.theme") == theme
        assert page.js("document.querySelector('.source').innerText") == "image"
        assert page.js("illava.shown.tokens") == 227
        page.js("document.getElementById('slider').focus()")
        page.press("home")
        page.wait("illava.shown.tokens === 720")


def test_a_second_turn_goes_on_from_the_cache(page, real):
    before = real.figures()
    page = page()
    drop(page, PICTURE)
    ask(page, QUESTION)
    ask(page, "Which colour is the square?")
    assert page.js(SAID) == ["blue"]
    assert "tokens cached" in page.js(COST)
    after = real.figures()
    found = 'conversations_total{found="yes"}'
    assert after[found] == before.get(found, 0) + 1
    cached = after["cached_tokens_total"] - before["cached_tokens_total"]
    assert f"{cached:.0f} tokens cached" in page.js(COST)


def test_a_clip_is_asked_about_and_mapped(page):
    page = page()
    page.choose("#files", CLIP)
    page.wait("document.querySelector('#tray video')?.readyState >= 2")
    ask(page, "Which way does the circle move?")
    assert page.js(SAID) == ["right"]
    assert "visual tokens" in page.js(COST)
    click(page, "Merge map")
    page.wait(f"document.querySelector('iframe') && {IDLE}")
    with page.inside("iframe"):
        page.wait("window.illava?.isDrawn")
        assert page.js(INK)[1] > 100
        assert page.js("document.querySelector('.source').innerText") == "video"


def test_a_phone_has_all_of_it(page):
    page = page(width=360, height=740)
    drop(page, PICTURE)
    ask(page, QUESTION)
    click(page, "Unmodified answer")
    page.wait(f"document.querySelector('table') && {IDLE}")
    click(page, "Merge map")
    page.wait(f"document.querySelector('iframe') && {IDLE}")
    with page.inside("iframe"):
        page.wait("window.illava?.isDrawn")
        assert page.js("document.documentElement.scrollWidth <= innerWidth")
    assert page.js(WIDTH) == 360


# requests with fields that the page does not send: an answer that does not end by itself
ENDLESS = """(ends => {
    const before = window.fetch;
    window.fetch = (path, options) => {
        const body = { ...JSON.parse(options.body), logit_bias: ends, max_tokens: 4000 };
        window.fetch = before;
        return before(path, { ...options, body: JSON.stringify(body) });
    };
    return true;
})"""


def test_an_answer_is_stopped_and_costs_no_more(page, real):
    settings = json.loads((ASSETS / "tiny" / "generation_config.json").read_text(encoding="utf-8"))
    ends = {str(token): -100 for token in settings["eos_token_id"]}
    page = page()
    page.js(f"{ENDLESS}({json.dumps(ends)})")
    write(page, "Go on")
    page.press("enter")
    page.wait(f"{SAID}[0]?.length > 20")
    page.press("escape")
    page.wait(IDLE)
    assert "You stopped it here." in page.js("document.querySelector('.notes').innerText")
    real.until_at_rest()


def test_a_broken_picture_is_refused_in_the_server_s_words(page):
    page.refused = True
    page = page()
    drop(page, ("broken.jpg", "image/jpeg", PICTURE[2][:200]))
    write(page, QUESTION)
    page.press("enter")
    page.wait(f"{TROUBLE} && {IDLE}")
    assert "data:image/jpeg" in page.js(TROUBLE)
    assert page.js(TRAY) == ["broken.jpg"]  # the question is taken back


@pytest.mark.needs("curl", "bash", "openai")
@pytest.mark.parametrize("kind", ["curl", "Python"])
def test_what_is_copied_runs_against_the_server(page, kind, tmp_path):
    page = page()
    drop(page, PICTURE)
    slide(page, 50)
    ask(page, QUESTION)
    click(page, f"Copy as {kind}")
    page.wait("document.querySelector('.code pre')")
    code = page.js("document.querySelector('.code pre').textContent")
    (tmp_path / "shapes.jpg").write_bytes(PICTURE[2])
    (tmp_path / "code").write_text(code, encoding="utf-8")
    shell = {"curl": "bash", "Python": sys.executable}[kind]
    done = run([shell, "code"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "circle" in done.stdout


def test_the_page_asks_for_the_key_that_the_server_wants(page):
    show = page
    with serving("--api-key", "open-sesame") as server:
        show.refused = True
        page = show(server, "!document.getElementById('key').hidden")
        assert page.js(MODEL) == ""
        for key, opens in (("wrong", False), ("open-sesame", True)):
            page.js("document.getElementById('key-field').focus()")
            page.press(*key, "enter")
            page.wait(MODEL if opens else TROUBLE)
        assert page.js("document.getElementById('key').hidden")
        drop(page, PICTURE)
        ask(page, QUESTION)
        assert page.js(SAID) == ["circle"]
        click(page, "Merge map")  # a frame can send no key
        page.wait(f"document.querySelector('iframe') && {IDLE}")
        with page.inside("iframe"):
            page.wait("window.illava?.isDrawn")
        assert "open-sesame" not in server.said


def test_what_openapi_says_is_shown_from_this_server_alone(page):
    page = page()
    origin = page.js("location.origin")
    page.open(f"{origin}/docs", "document.querySelector('.opblock')")
    text = page.js("document.body.innerText")
    assert "/v1/chat/completions" in text
    assert "/v1/responses" in text
