"""The page in Chromium: themes, widths, answers, texts."""

from __future__ import annotations

import pytest

from illava_cli.visualize.page import render
from tests.visualize.sample_payload import image_payload

pytestmark = pytest.mark.needs("browser")


def test_reduced_motion_offers_no_animation(page):
    page = page("video", prefers_reduced_motion="reduce")
    assert page.js("document.querySelector('.play').offsetParent") is None


@pytest.mark.parametrize("name", ["image", "video"])
def test_a_phone_scrolls_in_one_direction_only(page, name):
    page = page(name, width=360, height=740)
    page.js("document.querySelectorAll('details').forEach(d => (d.open = true))")
    assert page.js("document.documentElement.scrollWidth") == 360


def test_the_theme_follows_the_system_until_it_is_chosen(page):
    lightness = "getComputedStyle(document.body.parentElement).backgroundColor.match(/\\d+/g).map(Number)[0]"
    page = page("image", prefers_color_scheme="dark")
    assert page.js(lightness) < 60
    page.js("document.getElementById('theme').click()")
    assert page.js(lightness) > 200


def test_answers_stand_side_by_side_with_what_they_cost(page):
    page = page("image")
    text = page.js("document.querySelector('main').innerText")
    for words in ("from token 8 on", "0.013", "visual tokens", "252", "529", "−52 %", "16.2 GB"):
        assert words in text
    marked = page.js("[...document.querySelectorAll('mark')].map(m => m.textContent)")
    assert marked == ["with two people who hold its line.", "and two people hold its line."]
    assert "layout: grid" in page.js("document.getElementById('config-text').textContent")


def test_the_shares_of_attention_are_read_layer_by_layer(page):
    page = page("image")
    page.js("document.querySelector('.chart').focus()")
    page.press("right")
    said = page.js("document.getElementById('shares-line').textContent")
    assert said.startswith("Layer 1: visual tokens 43.8 %, system prompt 31.2 %, instruction 15 %")


def test_a_run_without_comparison_shares_and_heat_maps_is_shown_too(browser, tmp_path):
    payload = image_payload() | {"heat": [], "shares": None}
    payload["answers"] = payload["answers"] | {"plain": None, "agreement": None}
    (tmp_path / "bare.html").write_text(render(payload), encoding="utf-8")
    browser.emulate()
    browser.open(tmp_path / "bare.html")
    assert browser.js("document.getElementById('shares').offsetParent") is None
    assert browser.js("document.querySelectorAll('.answer').length") == 1
    assert browser.console() == []


def test_markup_in_texts_is_shown_as_text(browser, tmp_path):
    payload = image_payload() | {"prompt": "<b id=bold>x</b></script><script>window.broken = 1</script>"}
    (tmp_path / "text.html").write_text(render(payload), encoding="utf-8")
    browser.open(tmp_path / "text.html")
    assert browser.js("document.getElementById('prompt').textContent") == payload["prompt"]
    assert browser.js("window.broken === undefined && document.getElementById('bold') === null")


def test_a_text_without_spaces_is_marked_from_where_it_differs(browser, tmp_path):
    payload = image_payload()
    payload["answers"]["merged"]["text"], payload["answers"]["plain"]["text"] = "红色的屋顶", "红色的房子"
    (tmp_path / "chinese.html").write_text(render(payload), encoding="utf-8")
    browser.open(tmp_path / "chinese.html")
    assert browser.js("[...document.querySelectorAll('mark')].map(m => m.textContent)") == ["屋顶", "房子"]
