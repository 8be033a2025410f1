"""Pictures of merge maps, taken in headless Chromium: `python scripts/shoot_map.py docs/images`.

`illava visualize` asks `tiny` about the sample picture and the sample clip. The pictures have few colours, so
that they are small. Needs chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import Browser  # noqa: E402 - found from wherever the script is run
from tests.visualize.on_page import MAIN, to_heat, to_mode, to_stage  # noqa: E402

ASSETS = ROOT / "illava_cli" / "assets"
PICTURE = ("--image", "shapes.jpg", "--prompt", "What shape is the red one?", "--png")
CLIP = ("--video", "shapes.mp4", "--num-frames", "8", "--prompt", "Which way does the circle move?")
COLOURS = 256
REFINED = 8  # rounds in which the colours are fitted: without them greys turn green
NAMES = 86  # pixels of `tokens.png` that name its rows
BELOW = 303  # where its first row ends
LAST_OF_TOWER, LAST = 2, 2  # stages of the picture, and of the clip
LOOKED_AT = (0.78, 0.72)  # place of the blue square, in shares of the picture


def mapped(folder: Path, about: tuple[str, ...]) -> Path:
    """The page of what is asked about."""
    command = [sys.executable, "-m", "illava_cli.cli.app", "visualize", "-m", "tiny", "--device", "cpu"]
    # there, so that the page names no folder
    subprocess.run([*command, *about, "-o", folder, "-q"], check=True, cwd=ASSETS, stdout=subprocess.DEVNULL)
    return folder / "index.html"


def write(picture: Image.Image, path: Path) -> None:
    few = picture.convert("RGB").quantize(COLOURS, kmeans=REFINED, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(path, f"{path.stat().st_size / 1000:.0f} kB")


def take(page: Browser, path: Path, whole: bool = False) -> None:
    page.wait("document.fonts.status === 'loaded'")
    page.screenshot(path, whole)
    with Image.open(path) as taken:
        write(taken, path)


def point_at(page: Browser, place: tuple[float, float]) -> None:
    left, top, width, height = page.js(
        f"(({{x, y, width, height}}) => [x, y, width, height])({MAIN}.getBoundingClientRect())"
    )
    page.point(left + place[0] * width, top + place[1] * height)
    page.wait("window.illava.isDrawn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("outdir", type=Path)
    out = parser.parse_args().outdir
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, Browser() as page:
        about_picture = mapped(Path(scratch) / "picture", PICTURE)
        with Image.open(about_picture.with_name("tokens.png")) as tokens:
            write(tokens, out / "tokens.png")
            # its first row, the picture as a whole
            write(tokens.crop((NAMES, 8, tokens.width, BELOW)), out / "overview.png")
        page.emulate(1180, 1440)
        page.open(about_picture)
        to_stage(page, LAST_OF_TOWER)
        to_mode(page, "merged")
        point_at(page, LOOKED_AT)
        take(page, out / "page-merged.png")
        page.emulate(1000, 900, prefers_color_scheme="dark")
        page.open(mapped(Path(scratch) / "clip", CLIP))
        to_stage(page, LAST)
        to_mode(page, "heat")
        to_heat(page, 3)
        take(page, out / "page-attention-dark.png", whole=True)


if __name__ == "__main__":
    main()
