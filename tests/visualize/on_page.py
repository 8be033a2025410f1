"""What is on a page in the browser, and how it is brought to a stage."""

from __future__ import annotations

from tests.browser import Browser
from tests.visualize.sample_payload import image_payload, video_payload

Place = tuple[float, float]
MIDDLE, OFF_MIDDLE = (0.5, 0.5), (0.6, 0.6)
CORNERS = [(0.08, 0.08), (0.92, 0.08), (0.08, 0.92), (0.92, 0.92)]
KEPT, MERGED, DROPPED, PADDING, LEFT_OUT = range(5)
PAYLOADS = {"image": image_payload(), "video": video_payload(frames=6)}
MAIN = "document.querySelector('canvas.main')"
READOUT = "document.querySelector('.readout').innerText"
SLIDER = "document.getElementById('slider')"
SHOWN = "window.illava.shown"
BLUE, GREY = (20, 40, 200), 40  # the sample's picture, and how far apart red and blue of a veiled one may be


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
