"""Pictures of the server's page, taken in headless Chromium: `python scripts/shoot_page.py URL OUTDIR`.

The page is used as a person uses it: a picture is added, a question asked, its answer compared, its merge map
shown.
Needs chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import Browser  # noqa: E402 - found from wherever the script is run

PATIENCE_S = 600
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
    page.emulate(prefers_color_scheme=theme, **({"scale": 2} | size))
    page.open(url, "document.getElementById('model')?.innerText")


def shoot(page: Browser, url: str, out: Path, picture: Path, question: str, second: str) -> None:
    def take(name: str) -> None:
        page.wait("document.fonts.status === 'loaded'")
        page.screenshot(out / f"{name}.png")
        print(out / f"{name}.png")

    open_page(page, url, "light")
    take("fresh-light")
    ask(page, question, picture)
    take("answer-light")
    ask(page, second)
    take("second-light")
    open_page(page, url, "dark")
    take("fresh-dark")
    ask(page, question, picture)
    click(page, "Unmodified answer", "table")
    page.js("scrollTo(0, 0)")
    take("compare-dark")
    click(page, "Merge map", "iframe")
    with page.inside("iframe"):
        page.wait("window.illava?.isDrawn", PATIENCE_S)
    page.js("document.querySelector('.map').scrollIntoView()")
    take("map-dark")
    open_page(page, url, "light", width=360, height=740, scale=3)
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
    with Browser() as page:
        shoot(page, given.url, given.outdir, given.picture.resolve(), given.question, given.second)


if __name__ == "__main__":
    main()
