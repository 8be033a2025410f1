"""The page in Chromium: pointer, touch and keys."""

from __future__ import annotations

import itertools

import pytest

from illava_cli.visualize.page import render
from tests.visualize.on_page import (
    CORNERS,
    KEPT,
    MAIN,
    PAYLOADS,
    READOUT,
    SHOWN,
    colour,
    first_view,
    gathering,
    is_inside,
    is_orange,
    on_screen,
    settle,
    to_stage,
)
from tests.visualize.sample_payload import image_payload, video_payload

pytestmark = pytest.mark.needs("browser")


def test_pointing_at_a_token_lights_up_what_merged_into_it_stronger_by_weight(page):
    page = page("image")
    to_stage(page, 4)
    stage = PAYLOADS["image"]["stages"][4]
    token = gathering("image", stage)
    members = {p for p, slot in enumerate(stage["slot"]) if slot == token}
    page.point(*on_screen(page, "image", stage["anchor"][token]))
    settle(page)
    shown = page.js(SHOWN)
    assert set(shown["members"]) == members
    assert [stage["weight"][p] for p in shown["members"]] == sorted(
        (stage["weight"][p] for p in members), reverse=True
    )
    inner = [p for p in shown["members"] if p != stage["anchor"][token] and is_inside("image", p)]
    colours = [colour(page, "image", p) for p in inner]
    assert len(colours) > 3
    assert all(is_orange(c) for c in colours)
    assert colours[0][0] - colours[0][2] > colours[-1][0] - colours[-1][2]
    others = first_view("image", stage, lambda p, slot, anchor: anchor[slot] == p and is_inside("image", p))
    assert not any(is_orange(colour(page, "image", p)) for p in others if p not in members)
    assert f"Token {token}" in page.js(READOUT)
    assert f"{len(members)} patches" in page.js(READOUT)
    page.point(2, 2)
    settle(page)
    assert page.js(SHOWN)["token"] == -1


@pytest.mark.parametrize("name", ["image", "video"])
def test_the_pointer_finds_a_patch_up_to_its_corners(page, name):
    page = page(name)
    for patch, place in itertools.product((0, 17, 61), CORNERS):
        page.point(*on_screen(page, name, patch, place))
        settle(page)
        assert page.js(SHOWN)["patch"] == patch


def test_a_patch_that_merged_away_names_the_token_that_took_it(page):
    page = page("image")
    to_stage(page, 4)
    stage = PAYLOADS["image"]["stages"][4]
    token = gathering("image", stage)
    patch = first_view("image", stage, lambda p, slot, anchor: slot == token and anchor[slot] != p)[0]
    page.point(*on_screen(page, "image", patch))
    settle(page)
    shown = page.js(SHOWN)
    assert (shown["patch"], shown["token"]) == (patch, token)
    assert "this patch" in page.js(READOUT)


def test_a_tap_holds_a_token_over_the_stages_and_a_second_one_lets_go(page):
    page = page("image", width=360, height=740)
    stage = PAYLOADS["image"]["stages"][4]
    anchor = stage["anchor"][gathering("image", stage)]
    for held in (anchor, None):
        page.point(*on_screen(page, "image", anchor), pointer="touch", click=True)
        settle(page)
        assert page.js(SHOWN)["patch"] == held
        to_stage(page, 4)
        assert page.js(SHOWN)["patch"] == held


def test_keys_alone_move_hold_and_change_the_stage(page):
    page = page("image")
    to_stage(page, 4)
    page.js(f"{MAIN}.focus()")
    page.press("down")
    settle(page)
    first = page.js(SHOWN)["patch"]
    assert PAYLOADS["image"]["stages"][4]["anchor"][PAYLOADS["image"]["stages"][4]["slot"][first]] == first
    page.press("right", "down")
    settle(page)
    moved = page.js(SHOWN)["patch"]
    side = 12
    assert moved == first + side + 1
    assert f"row {moved // side + 1}, column {moved % side + 1}" in page.js(READOUT)
    page.press("pageup")
    settle(page)
    assert page.js(SHOWN)["stage"] == "tower, layer 7"
    page.press("enter")
    page.point(*on_screen(page, "image", 0))
    settle(page)
    assert page.js(SHOWN)["patch"] == moved
    page.press("escape")
    settle(page)
    assert page.js(SHOWN)["patch"] is None


def test_every_control_is_reached_with_the_tab_key(page):
    page = page("video")
    reached = []
    for _ in range(12):
        page.press("tab")
        reached.append(page.js("(e => e.id || e.className || e.tagName)(document.activeElement)"))
    for control in ("theme", "slider", "main", "play", "thumb", "chart", "SUMMARY"):
        assert any(control in name for name in reached), (control, reached)


def test_frames_are_chosen_with_keys_and_play_until_stopped(page):
    page = page("video")
    chosen = "[...document.querySelectorAll('.thumb')].findIndex(t => t.ariaChecked === 'true')"
    page.js("document.querySelector('.thumb').focus()")
    page.press("right", "right")
    settle(page)
    assert page.js(chosen) == 2
    assert page.js("document.activeElement.getAttribute('aria-label')").startswith("frame 2 (1.0 s)")
    page.js("document.querySelector('.play').click()")
    page.wait(f"{chosen} === 4")
    page.js("document.querySelector('.play').click()")
    assert page.js("document.querySelector('.play').textContent") == "Play"


def test_a_token_of_one_medium_is_read_beside_that_medium(browser, tmp_path):
    payload = image_payload()
    other = image_payload()
    count, tokens = len(payload["patches"]["view"]), payload["stages"][4]["tokens"]
    payload["media"] += [other["media"][0] | {"source": "second.jpg"}]
    for name in ("view", "box", "padding"):
        payload["patches"][name] += other["patches"][name]
    payload["patches"]["medium"] += [1] * count
    payload["heat"], payload["stages"] = (
        [],
        [payload["stages"][4] | {"attention": None, "tokens": 2 * tokens}],
    )
    for name, shift in (("slot", tokens), ("anchor", count), ("weight", 0)):
        payload["stages"][0][name] += [value + shift for value in other["stages"][4][name]]
    (tmp_path / "two.html").write_text(render(payload), encoding="utf-8")
    browser.emulate()
    browser.open(tmp_path / "two.html")
    browser.js("document.querySelectorAll('canvas.main')[1].focus()")
    browser.press("down")
    settle(browser)
    assert browser.js(SHOWN)["patch"] >= count
    first, second = browser.js("[...document.querySelectorAll('.readout')].map(r => r.innerText)")
    assert first == ""
    assert f"Token {browser.js(SHOWN)['token']}" in second
    assert "second.jpg, overview, row" in second


def test_a_token_anchored_in_a_frame_that_is_not_shown_says_so(browser, tmp_path):
    payload = video_payload(frames=2)
    stage = payload["stages"][4]
    patch = stage["anchor"][0]
    stage["anchor"][0] = -1
    payload["stages"] = [stage]
    (tmp_path / "sampled.html").write_text(render(payload), encoding="utf-8")
    browser.emulate()
    browser.open(tmp_path / "sampled.html")
    assert browser.js(SHOWN)["counts"][KEPT] == len(stage["anchor"]) - 1
    browser.point(*on_screen(browser, "video", patch))
    settle(browser)
    assert browser.js(SHOWN)["token"] == 0
    assert "in a frame that is not shown" in browser.js(READOUT)
    assert browser.console() == []
