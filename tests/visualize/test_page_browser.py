"""The page in headless Chromium: the slider, hover, tap, keys, themes, widths; no errors and no requests."""

from __future__ import annotations

import itertools

import pytest

from illava_cli.visualize.page import render
from tests.visualize.browser import Browser
from tests.visualize.sample_payload import image_payload, video_payload

pytestmark = pytest.mark.needs("browser")

Place = tuple[float, float]
MIDDLE, OFF_MIDDLE = (0.5, 0.5), (0.6, 0.6)
CORNERS = [(0.08, 0.08), (0.92, 0.08), (0.08, 0.92), (0.92, 0.92)]
KEPT, MERGED, DROPPED, PADDING = range(4)
PAYLOADS = {"image": image_payload(), "video": video_payload(frames=6)}
MAIN = "document.querySelector('canvas.main')"
READOUT = "document.querySelector('.readout').innerText"
SLIDER = "document.getElementById('slider')"
SHOWN = "window.illava.shown"
BLUE, GREY = (20, 40, 200), 40  # the sample's picture, and how far apart red and blue of a veiled one may be


@pytest.fixture(scope="module")
def browser():
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
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


def settle(page: Browser) -> None:
    page.wait("window.illava.isDrawn")


def to_stage(page: Browser, index: int) -> None:
    page.js(f"({SLIDER}.value = {index}, {SLIDER}.dispatchEvent(new Event('input')))")
    settle(page)


def to_mode(page: Browser, mode: str) -> None:
    page.js(f"document.querySelector('#modes input[value={mode}]').click()")
    settle(page)


def to_heat(page: Browser, choice: int | str) -> None:
    heat = "document.getElementById('heat')"
    page.js(f"({heat}.value = '{choice}', {heat}.dispatchEvent(new Event('change')))")
    settle(page)


def on_screen(page: Browser, name: str, patch: int, at: Place = MIDDLE) -> tuple[float, float]:
    """Where in the window a patch of the first view is, at these shares of its width and height."""
    page.js(f"{MAIN}.scrollIntoView({{block: 'end'}})")
    left, top, width, height = page.js(
        f"(({{x, y, width, height}}) => [x, y, width, height])({MAIN}.getBoundingClientRect())"
    )
    boxes = [
        b for b, v in zip(*(PAYLOADS[name]["patches"][k] for k in ("box", "view")), strict=True) if v == 0
    ]
    x0, y0 = min(b[0] for b in boxes), min(b[1] for b in boxes)
    x1, y1 = max(b[0] + b[2] for b in boxes), max(b[1] + b[3] for b in boxes)
    x, y, w, h = PAYLOADS[name]["patches"]["box"][patch]
    x, y = x + at[0] * w, y + at[1] * h
    return left + (x - x0) / (x1 - x0) * width, top + (y - y0) / (y1 - y0) * height


def colour(page: Browser, name: str, patch: int, at: Place = OFF_MIDDLE) -> list[int]:
    """The colour of the large picture at a place of a patch (read from a copy: no warning)."""
    x, y = on_screen(page, name, patch, at)
    return page.js(
        f"(c => {{ const r = c.getBoundingClientRect(), s = c.width / r.width;"
        "const pixel = document.createElement('canvas').getContext('2d', { willReadFrequently: true });"
        f"pixel.drawImage(c, ({x} - r.x) * s, ({y} - r.y) * s, 1, 1, 0, 0, 1, 1);"
        f"return [...pixel.getImageData(0, 0, 1, 1).data].slice(0, 3) }})({MAIN})"
    )


def is_inside(name: str, patch: int) -> bool:
    """Whether a patch of the first view lies wholly on its picture."""
    _, y, _, height = PAYLOADS[name]["patches"]["box"][patch]
    return y >= 0 and y + height <= PAYLOADS[name]["media"][0]["views"][0]["height"]


def is_orange(rgb: list[int]) -> bool:
    return rgb[0] > rgb[1] > rgb[2] + 20


def is_picture(rgb: list[int]) -> bool:
    return all(abs(a - b) < 12 for a, b in zip(rgb, BLUE, strict=True))


def first_view(name: str, stage: dict, wanted) -> list[int]:
    """Patches of the first view for which `wanted(patch, slot, anchor)` holds."""
    view = PAYLOADS[name]["patches"]["view"]
    return [p for p, slot in enumerate(stage["slot"]) if view[p] == 0 and wanted(p, slot, stage["anchor"])]


def gathering(name: str, stage: dict) -> int:
    """A token that others of the first view merged into."""
    merged = first_view(name, stage, lambda p, slot, anchor: slot >= 0 and anchor[slot] != p)
    return next(
        s for p in merged if PAYLOADS[name]["patches"]["view"][stage["anchor"][s := stage["slot"][p]]] == 0
    )


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


def test_only_the_pooled_stage_keeps_patches_that_become_one_token(browser, tmp_path):
    payload = video_payload(frames=2)
    entering, pooled = payload["stages"][4:6]
    payload["stages"] = [entering, pooled | {"name": "input"}]
    (tmp_path / "input.html").write_text(render(payload), encoding="utf-8")
    browser.emulate()
    browser.open(tmp_path / "input.html")
    assert browser.js(SHOWN)["counts"][KEPT] == pooled["tokens"] < entering["tokens"]


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


def test_a_text_without_spaces_is_marked_from_where_it_differs(browser, tmp_path):
    payload = image_payload()
    payload["answers"]["merged"]["text"], payload["answers"]["plain"]["text"] = "红色的屋顶", "红色的房子"
    (tmp_path / "chinese.html").write_text(render(payload), encoding="utf-8")
    browser.open(tmp_path / "chinese.html")
    assert browser.js("[...document.querySelectorAll('mark')].map(m => m.textContent)") == ["屋顶", "房子"]
