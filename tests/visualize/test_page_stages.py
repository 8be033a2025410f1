"""The page in Chromium: its stages, and what each shows of the patches."""

from __future__ import annotations

import itertools

import pytest

from illava_cli.visualize.page import render
from tests.visualize.on_page import (
    CORNERS,
    DROPPED,
    GREY,
    KEPT,
    LEFT_OUT,
    PADDING,
    PAYLOADS,
    READOUT,
    SHOWN,
    SLIDER,
    colour,
    first_view,
    gathering,
    is_inside,
    is_picture,
    on_screen,
    settle,
    to_heat,
    to_mode,
    to_stage,
)
from tests.visualize.sample_payload import image_payload, video_payload

pytestmark = pytest.mark.needs("browser")


def test_the_slider_goes_through_the_stages_and_the_counts_follow(page):
    page = page("image")
    page.js(f"{SLIDER}.focus()")
    page.press("home")
    for number, stage in enumerate(PAYLOADS["image"]["stages"]):
        settle(page)
        shown = page.js(SHOWN)
        assert (shown["stage"], shown["tokens"]) == (stage["name"], stage["tokens"])
        assert sum(shown["counts"]) == len(stage["slot"])
        assert shown["counts"][DROPPED] == stage["slot"].count(-1)
        assert shown["counts"][PADDING] == stage["slot"].count(-2)
        assert page.js("document.getElementById('stage-name').textContent") == stage["name"]
        assert f"{stage['tokens']} tokens" in page.js(f"{SLIDER}.getAttribute('aria-valuetext')")
        assert (
            page.js("[...document.querySelectorAll('.column')].findIndex(c => c.classList.contains('now'))")
            == number
        )
        page.press("right")


def test_without_pooling_a_kept_patch_is_one_that_anchors_its_token(page):
    page = page("image")
    to_stage(page, 4)
    assert page.js(SHOWN)["counts"][KEPT] == PAYLOADS["image"]["stages"][4]["tokens"]


def test_a_pooled_cell_keeps_all_its_patches_until_it_merges(page):
    payload = PAYLOADS["video"]
    entering, pooled = payload["stages"][4:6]
    page = page("video")
    to_stage(page, 5)
    assert page.js(SHOWN)["counts"][KEPT] == entering["tokens"] > pooled["tokens"]
    to_stage(page, 6)
    stage = payload["stages"][6]
    alive = set(entering["anchor"])
    cells = pooled["slot"]
    whole = [p for p in alive if cells[p] == cells[stage["anchor"][stage["slot"][p]]]]
    assert page.js(SHOWN)["counts"][KEPT] == len(whole)


def test_only_the_pooled_stage_keeps_patches_that_become_one_token(browser, tmp_path):
    payload = video_payload(frames=2)
    entering, pooled = payload["stages"][4:6]
    payload["stages"] = [entering, pooled | {"name": "input"}]
    (tmp_path / "input.html").write_text(render(payload), encoding="utf-8")
    browser.emulate()
    browser.open(tmp_path / "input.html")
    assert browser.js(SHOWN)["counts"][KEPT] == pooled["tokens"] < entering["tokens"]


@pytest.mark.parametrize("name", ["image", "video"])
def test_the_picture_shows_kept_patches_and_veils_merged_ones(page, name):
    page = page(name)
    to_stage(page, 4)
    stage = PAYLOADS[name]["stages"][4]
    kept = first_view(name, stage, lambda p, slot, anchor: is_inside(name, p) and anchor[slot] == p)
    merged = first_view(name, stage, lambda p, slot, anchor: is_inside(name, p) and anchor[slot] != p)
    assert len(kept) > 20
    assert len(merged) > 20
    for patch, place in itertools.product(kept[:12], CORNERS):
        assert is_picture(colour(page, name, patch, place))
    for patch, place in itertools.product(merged[:12], CORNERS):
        red, _, blue = colour(page, name, patch, place)
        assert abs(red - blue) < GREY


def test_dropped_and_padding_patches_look_different(page):
    page = page("image")
    to_stage(page, 5)
    stage = PAYLOADS["image"]["stages"][5]
    padding = first_view("image", stage, lambda p, slot, _: slot == -2)
    dropped = first_view("image", stage, lambda p, slot, _: slot == -1)
    assert min(min(colour(page, "image", patch)) for patch in padding[:6]) > 120
    assert max(max(colour(page, "image", patch)) for patch in dropped[:6]) < 150


def test_what_did_not_enter_looks_and_reads_unlike_what_is_dropped(browser, tmp_path):
    payload = image_payload()
    first, dropped = payload["stages"][0], payload["stages"][5]
    inside = first_view("image", first, lambda p, *_: is_inside("image", p))
    out = inside[:8]
    left = [p for p in first["slot"] if p not in out]
    slot = [left.index(p) if p not in out else -3 for p in first["slot"]]
    pixels = first | {"name": "pixels", "tokens": len(left), "slot": slot, "anchor": left}
    frames = first | {"name": "frames, layer 3", "layer": 3}
    payload["stages"] = [first, pixels, frames, *payload["stages"][1:]]
    (tmp_path / "pixels.html").write_text(render(payload), encoding="utf-8")
    browser.emulate()
    browser.open(tmp_path / "pixels.html")
    names = browser.js("[...document.querySelectorAll('.column-name')].slice(0, 4).map(e => e.textContent)")
    assert names == ["in", "pixels", "frames 3", "5"]
    to_stage(browser, 1)
    assert browser.js(SHOWN)["counts"][LEFT_OUT] == 8
    assert "8 left out" in browser.js("document.getElementById('stage-patches').innerText")
    assert "left out" in browser.js("document.getElementById('legend').innerText")
    assert all(min(colour(browser, "image", patch)) > 90 for patch in out)
    assert is_picture(colour(browser, "image", inside[8]))
    browser.point(*on_screen(browser, "image", out[0]))
    settle(browser)
    assert "did not enter the tower" in browser.js(READOUT)
    to_stage(browser, 7)
    gone = first_view("image", dropped, lambda p, slot, _: slot == -1)
    browser.point(*on_screen(browser, "image", gone[0]))
    settle(browser)
    assert "is in no token any more" in browser.js(READOUT)


def test_a_token_tells_from_which_frames_it_comes(browser, tmp_path):
    payload = video_payload(frames=2)
    first, count = payload["stages"][0], len(payload["stages"][0]["slot"]) // 2
    merged = {
        "tokens": count,
        "slot": [*range(count)] * 2,
        "anchor": [*range(count)],
        "weight": [0.5] * 2 * count,
    }
    payload["stages"] = [first, first | {"name": "frames, layer 3", "layer": 3} | merged]
    (tmp_path / "frames.html").write_text(render(payload), encoding="utf-8")
    browser.emulate()
    browser.open(tmp_path / "frames.html")
    to_stage(browser, 1)
    assert browser.js(SHOWN)["tokens"] == count
    browser.point(*on_screen(browser, "video", 20))
    settle(browser)
    told = browser.js(READOUT)
    assert "2 patches" in told
    assert "frame 0 (0.0 s), row" in told
    assert "frame 1 (0.5 s), row" in told


def test_merged_into_tints_a_token_and_its_members_alike(page):
    page = page("image")
    to_stage(page, 4)
    stage = PAYLOADS["image"]["stages"][4]
    token = gathering("image", stage)
    before = colour(page, "image", stage["anchor"][token])
    to_mode(page, "merged")
    assert colour(page, "image", stage["anchor"][token]) != before
    alone = first_view(
        "image", stage, lambda p, slot, _: stage["slot"].count(slot) == 1 and is_inside("image", p)
    )
    assert is_picture(colour(page, "image", alone[0]))


def test_the_heat_map_is_that_of_the_layer_chosen(page):
    page = page("image")
    to_mode(page, "heat")
    chosen = []
    for index in (0, 5):
        to_heat(page, index)
        heat = PAYLOADS["image"]["heat"][index]["values"]
        inner = first_view("image", PAYLOADS["image"]["stages"][0], lambda p, *_: is_inside("image", p))
        inner.sort(key=lambda p: heat[p])
        low, high = colour(page, "image", inner[0]), colour(page, "image", inner[-1])
        assert sum(high[:2]) > sum(low[:2]) + 60
        chosen.append(inner[-1])
    assert chosen[0] != chosen[1]


def test_a_stage_that_scored_nothing_says_so(page):
    page = page("image")
    to_mode(page, "heat")
    page.js(
        "(e => (e.value = 'stage', e.dispatchEvent(new Event('change'))))(document.getElementById('heat'))"
    )
    to_stage(page, 4)
    assert "and more" in page.js("document.getElementById('legend').innerText")
    to_stage(page, 0)
    assert "nothing was scored" in page.js("document.getElementById('legend').innerText")
