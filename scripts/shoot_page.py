"""Pictures of the server's page, taken in headless Chromium: `python scripts/shoot_page.py URL OUTDIR`.

The page is used as a person uses it: a picture is added, a question asked, its answer compared, its merge map
shown. The pictures have few colours, so that they are small.
Needs chromium and chromedriver, and a server that has not seen the picture yet: else times are too good.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import Browser  # noqa: E402 - found from wherever the script is run

PATIENCE_S = 600
SCALE = 2  # of pixels of the screen; frames of other origins do not follow an emulated one
COLOURS = 256
REFINED = 8  # rounds in which the colours are fitted: without them greys turn green
WARM = ROOT / "illava_cli" / "assets" / "sample.jpg"
DONE = "document.getElementById('stop').hidden && !document.querySelector('.waiting, .live')"


def click(page: Browser, words: str, wait_for: str) -> None:
    buttons = "[...document.querySelectorAll('.turn:last-child button')]"
    page.js(f"{buttons}.find(button => button.innerText === '{words}').click()")
    page.wait(f"document.querySelector('{wait_for}') && {DONE}", PATIENCE_S)


def ask(page: Browser, question: str, *pictures: Path) -> None:
    if pictures:
        page.choose("#files", *pictures)
        page.wait(f"document.querySelectorAll('#tray li').length === {len(pictures)}")
    page.js("document.getElementById('question').focus()")
    page.press(*question)
    turns = page.js("document.querySelectorAll('.turn').length")
    page.press("enter")
    page.wait(f"document.querySelectorAll('.turn').length === {turns + 1} && {DONE}", PATIENCE_S)
    if trouble := page.js("document.getElementById('trouble').innerText"):
        raise SystemExit(f"the page says: {trouble}")


def open_page(page: Browser, url: str, theme: str, **size: float) -> None:
    page.emulate(prefers_color_scheme=theme, scale=SCALE, **size)
    page.open(url, "document.getElementById('model')?.innerText")


def slide(page: Browser, percent: int) -> None:
    slider = "document.getElementById('share')"
    page.js(f"({slider}.value = {percent}, {slider}.dispatchEvent(new Event('input')))")


def show_map(page: Browser) -> None:
    click(page, "Merge map", "iframe")
    with page.inside("iframe"):
        page.wait("window.illava?.isDrawn", PATIENCE_S)
    page.js("document.querySelector('.map').scrollIntoView()")


def shoot(page: Browser, url: str, out: Path, picture: Path, question: str, second: str) -> None:
    def take(name: str) -> None:
        page.wait("document.fonts.status === 'loaded'")
        path = out / f"{name}.png"
        page.screenshot(path)
        with Image.open(path) as taken:
            few = taken.convert("RGB").quantize(COLOURS, kmeans=REFINED, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
        print(path, f"{path.stat().st_size / 1000:.0f} kB")

    open_page(page, url, "dark")
    take("fresh-dark")
    ask(page, question, WARM)  # what is done once, is done
    click(page, "Unmodified answer", "table")
    page.js("document.getElementById('new').click()")
    slide(page, 20)
    ask(page, question, picture)
    click(page, "Unmodified answer", "table")
    page.js("scrollTo(0, 0)")
    take("compare-dark")
    show_map(page)
    take("map-dark")
    open_page(page, url, "light")
    take("fresh-light")
    ask(page, question, picture)
    take("answer-light")
    ask(page, second)
    take("second-light")
    open_page(page, url, "light", width=390, height=800)
    take("phone-fresh")
    ask(page, question, picture)
    take("phone-answer")
    click(page, "Unmodified answer", "table")
    take("phone-compare")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("outdir", type=Path)
    parser.add_argument("--picture", type=Path, default=ROOT / "illava_cli" / "assets" / "shapes.jpg")
    parser.add_argument("--question", default="What shape is the red one?")
    parser.add_argument("--second", default="Which colour is the square?")
    given = parser.parse_args()
    given.outdir.mkdir(parents=True, exist_ok=True)
    with Browser(f"--force-device-scale-factor={SCALE}") as page:
        shoot(page, given.url, given.outdir, given.picture.resolve(), given.question, given.second)


if __name__ == "__main__":
    main()
