"""The server's page in Chromium: themes, widths, the keyboard, what those hear who do not see it."""

from __future__ import annotations

import re

import pytest

from tests.browser import Browser
from tests.serve.fake_server import MERGED_TEXT, PAGE, Canned
from tests.serve.on_page import IDLE, QUESTION, SAID, SLIDER, TRAY, WIDTH, ask, click, drop, png, write

pytestmark = pytest.mark.needs("browser")
PICTURE = ("a rather long name of a picture, as cameras give them.png", "image/png", png(900, 200))
MOST = 350  # lines of a file
LIGHTNESS = "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)[0]"
NAMELESS = """[...document.querySelectorAll('button, input, textarea, iframe, img, video')]
    .filter(e => e.checkVisibility() && !(e.innerText || e.ariaLabel || e.title || e.alt === '' || e.alt
        || e.labels?.length)).map(e => e.outerHTML)"""
# the contrast of each text with what is behind it, by WCAG's formula, where it is less than 4.5
FAINT = """(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => sum + w * linear(c[i] / 255), 0);
    const behind = (e) => { const c = rgba(getComputedStyle(e).backgroundColor);
        return c[3] > 200 || !e.parentElement ? c : behind(e.parentElement) };
    const ratio = (e) => {
        const both = [rgba(getComputedStyle(e).color), behind(e)].map(light).sort((x, y) => y - x);
        return (both[0] + 0.05) / (both[1] + 0.05) };
    return [...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && !e.disabled
        && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && ratio(e) < 4.5)
        .map(e => `${e.outerHTML.slice(0, 80)}: ${ratio(e).toFixed(2)}`);
})()"""


def full(page: Browser) -> None:
    """Everything that the page can show."""
    drop(page, PICTURE, PICTURE)
    ask(page, "What is shown, and whatisthatextraordinarilylongwordthatnolinecanholdwithoutbeingbroken?")
    click(page, "Unmodified answer")
    page.wait("document.querySelector('table')")
    click(page, "Merge map")
    page.wait("document.querySelector('iframe')")
    click(page, "Copy as curl")
    drop(page, PICTURE, ("x.txt", "text/plain", b""))
    page.js("document.getElementById('key').hidden = false")


@pytest.mark.parametrize("width", [320, 360, 620, 800])
def test_a_phone_scrolls_in_one_direction_only(page, width):
    page = page(width=width, height=740)
    assert page.js(WIDTH) == width
    full(page)
    assert page.js(WIDTH) == width
    assert page.js(f"{QUESTION}.getBoundingClientRect().bottom") < 740


def test_answers_stand_below_each_other_on_a_phone(page):
    page = page(width=360, height=740)
    ask(page)
    click(page, "Unmodified answer")
    page.wait("document.querySelector('table')")
    tops = page.js(
        "[...document.querySelectorAll('.answers figure')].map(f => f.getBoundingClientRect().top)"
    )
    assert tops[0] < tops[1]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_stands_out_and_everything_has_a_name(page, theme):
    page = page(prefers_color_scheme=theme)
    assert page.js(FAINT) == []
    full(page)
    assert page.js(FAINT) == []
    assert page.js(NAMELESS) == []


def test_the_theme_follows_the_system_until_it_is_chosen(page, server, browser):
    page = page(prefers_color_scheme="dark")
    assert page.js(LIGHTNESS) < 60
    assert page.js("document.getElementById('theme').ariaPressed") == "true"
    page.emulate(prefers_color_scheme="light")
    assert page.js(LIGHTNESS) > 200
    page.js("document.getElementById('theme').click()")
    assert page.js(LIGHTNESS) < 60
    browser.open(f"{server.url}?again", "document.getElementById('model')?.innerText")
    assert page.js(LIGHTNESS) < 60


def test_reduced_motion_moves_nothing(page, server):
    server.answer = lambda body: Canned(held=True)
    page = page(prefers_reduced_motion="reduce")
    write(page, "Go")
    page.press("enter")
    page.wait("document.querySelector('.waiting')")
    assert page.js("document.getAnimations().length") == 0
    server.release()
    page.wait(IDLE)


def test_everything_is_done_with_the_keyboard_alone(page, server):
    focus = "document.activeElement.id || document.activeElement.innerText"
    said = f"{SLIDER}.getAttribute('aria-valuetext')"
    page = page()
    order = [page.js(focus)]  # one can begin to write at once
    for _ in range(3):
        page.press("tab")
        order.append(page.js(focus))
    assert order == ["question", "choose", "share", "ask"]
    page.press("tab", holding="shift")
    page.press("right")
    assert page.js(said) == "35 %"
    page.press("home")
    assert page.js(said) == "5 %"
    page.press("tab", "tab", holding="shift")
    page.press(*"One")
    page.press("enter", holding="shift")
    page.press(*"two")
    page.press("enter")
    page.wait(f"{SAID}.length && {IDLE}")
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "One\ntwo"}]
    assert server.bodies[0]["keep"] == 0.05
    order = [page.js(focus)]
    for _ in range(4):
        page.press("tab", holding="shift")
        order.append(page.js(focus))
    assert order == ["question", "Copy as Python", "Copy as curl", "Ask again", "Unmodified answer"]
    page.press("enter")
    page.wait("document.querySelector('table')")
    assert page.js(SAID)[0] == MERGED_TEXT


def test_a_picture_is_removed_with_the_keyboard(page):
    page = page()
    drop(page, PICTURE)
    page.press("tab", holding="shift")
    page.press("enter")
    assert page.js(TRAY) == []
    assert page.js("document.activeElement.id") == "question"


def test_the_field_of_dots_leaves_what_the_slider_leaves(page):
    page = page()
    left = "document.querySelectorAll('#field circle:not(.merged)').length"
    page.js(f"({SLIDER}.value = 100, {SLIDER}.dispatchEvent(new Event('input')))")
    assert page.js(left) == 121
    page.js(f"({SLIDER}.value = 5, {SLIDER}.dispatchEvent(new Event('input')))")
    assert page.js(left) == 7


def test_every_state_of_the_page_allows_the_strictest_policy():
    """No script, style or handler within the markup, no address but the page's own, none that is absolute."""
    markup = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", markup)
    addresses = re.findall(r"(?:src|href)=\"([^\"]+)\"", markup)
    assert addresses
    for address in addresses:
        assert (PAGE / address.removeprefix("page/")).is_file(), address
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert not re.search(r"https?://", text), path
        assert "innerHTML" not in text, path
        assert len(text.splitlines()) <= MOST, path
