"""Draws the sample media that the embedded model understands: shapes.jpg and shapes.mp4.

    python scripts/make_shapes.py [FOLDER]

A picture of the world that it was trained on, with a sign (480x480), and a circle moving past a square
(240x240, 3 seconds).
"""

import argparse
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from illava_cli.evals.world.render import draw
from illava_cli.evals.world.scene import Background, Scene, Sign, Thing

FOLDER = Path(__file__).parents[1] / "illava_cli" / "assets"
RATE, SECONDS = 15, 3
PAPER = Background("clouds", (196, 190, 178), (172, 166, 156), 5)
CIRCLE = Thing("red", "circle", "large", 22.0, 26.0, 14.0, (214, 38, 40))
SQUARE = Thing("blue", "square", "large", 70.0, 70.0, 14.0, (42, 78, 216))
STAR = Thing("yellow", "star", "medium", 70.0, 24.0, 11.0, (244, 220, 48))


def still() -> Image.Image:
    """Three shapes and a sign."""
    sign = Sign("BOOK", 12.0, 68.0, 1.35, True)
    return draw(Scene((CIRCLE, SQUARE, STAR), PAPER, (sign,)), 480)


def frames(count: int):
    """The circle crosses from left to right above the square."""
    for x in np.linspace(16, 80, count):
        yield draw(Scene((replace(CIRCLE, x=float(x)), replace(SQUARE, x=48.0)), PAPER), 240)


def write_video(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 240, 240, "yuv420p"
        stream.options = {"crf": "20", "preset": "slow", "threads": "1"}
        stream.time_base = Fraction(1, RATE)
        for image in frames(RATE * SECONDS):
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    still().save(folder / "shapes.jpg", quality=92, optimize=True)
    write_video(folder / "shapes.mp4")
    for name in ("shapes.jpg", "shapes.mp4"):
        print(f"{folder / name}: {(folder / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
