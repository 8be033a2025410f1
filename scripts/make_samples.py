"""Draws the sample media that ship with the package: sample.jpg and sample.mp4.

    python scripts/make_samples.py [FOLDER]

A still life on a meadow (640x480), and a red ball rolling from left to right over the same ground
(320x240, 3 seconds). Drawn rather than photographed, so that their licence and content are certain.
"""

import argparse
import math
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

FOLDER = Path(__file__).parents[1] / "illava_cli" / "assets"
SCALE = 3  # everything is drawn this much larger and shrunk: smooth edges


def noise(rng: np.random.Generator, width: int, height: int, cells: int, stretch: float = 1) -> np.ndarray:
    """Smooth noise in [-1, 1] with about `cells` bumps across, each `stretch` times as wide as high."""
    coarse = rng.uniform(0, 255, (max(2, round(stretch * cells * height / width)), cells)).astype(np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32) / 127.5 - 1  # (H, W)


def background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Sky with clouds, two ranges of hills, a meadow."""
    y = np.linspace(0, 1, height)[:, None, None]
    sky = (1 - y) * np.array([96, 156, 220]) + y * np.array([236, 232, 214])
    clouds = sum(noise(rng, width, height, 3 * 2**i, stretch=3) / 2**i for i in range(5))[..., None]
    sky = sky + np.clip(clouds - 0.2, 0, 1.1) * (255 - sky) * 0.8
    canvas = sky
    x = np.arange(width)
    for base, rise, colour, waves in ((0.52, 0.13, (128, 152, 168), 1.6), (0.58, 0.07, (104, 142, 112), 2.7)):
        ridge = sum(
            math.pow(0.5, i) * np.sin(waves * 2**i * 6.3 * x / width + 2.1 * i + waves) for i in range(4)
        )
        rows = np.arange(height)[:, None]
        inside = rows > height * (base - rise * ridge[None] / 2)  # (H, W)
        shade = 1 + 0.08 * noise(rng, width, height, 40)
        canvas = np.where(inside[..., None], np.array(colour) * shade[..., None], canvas)
    horizon = int(height * 0.6)
    depth = np.linspace(0, 1, height - horizon)[:, None, None]
    meadow = (1 - depth) * np.array([134, 176, 84]) + depth * np.array([70, 122, 46])
    texture = sum(noise(rng, width, height - horizon, cells) for cells in (10, 60, 160)) / 3
    canvas = np.concatenate([canvas[:horizon], meadow * (1 + 0.28 * texture[..., None])])
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


def shadow(image: Image.Image, box: tuple[float, float, float, float]) -> None:
    """A soft dark ellipse on the ground."""
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).ellipse(box, fill=120)
    mask = mask.filter(ImageFilter.GaussianBlur((box[2] - box[0]) / 18))
    image.paste((24, 44, 20), mask=mask)


def ball(
    image: Image.Image, x: float, y: float, radius: float, colour: tuple, turn: float | None = None
) -> None:
    """A shaded sphere; with a stripe where `turn` (radians) is given."""
    shadow(image, (x - radius * 0.9, y + radius * 0.72, x + radius * 1.3, y + radius * 1.12))
    side = round(2 * radius)
    v, u = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    z = np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
    paint = np.broadcast_to(np.array(colour, dtype=np.float32), (side, side, 3))
    if turn is not None:
        stripe = np.abs(u * math.sin(turn) - v * math.cos(turn)) < 0.16
        paint = np.where(stripe[..., None], np.array([250, 244, 230]), paint)
    light = np.clip(-0.45 * u - 0.6 * v + 0.66 * z, 0, 1)
    pixels = paint * (0.35 + 0.7 * light)[..., None] + 190 * (light**24)[..., None]
    mask = Image.fromarray(((u * u + v * v <= 1) * 255).astype(np.uint8))
    image.paste(
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)),
        (round(x - radius), round(y - radius)),
        mask,
    )


def tree(image: Image.Image, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    draw = ImageDraw.Draw(image)
    shadow(image, (x - size * 0.5, y - size * 0.08, x + size * 0.8, y + size * 0.12))
    trunk = [
        (x - size * 0.07, y),
        (x - size * 0.04, y - size),
        (x + size * 0.04, y - size),
        (x + size * 0.07, y),
    ]
    draw.polygon(trunk, fill=(104, 74, 48))
    for _ in range(90):
        angle, reach = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0, 1))
        dx, dy = size * 0.5 * reach * math.cos(angle), size * 0.55 * reach * math.sin(angle)
        bright = 0.75 - 0.35 * (dx + dy) / size + rng.uniform(-0.12, 0.12)
        leaf = tuple(int(c * bright) for c in (84, 148, 62))
        r = size * rng.uniform(0.07, 0.15)
        centre = (x + dx, y - size * 1.15 + dy)
        draw.ellipse((centre[0] - r, centre[1] - r, centre[0] + r, centre[1] + r), fill=leaf)


def house(image: Image.Image, x: float, y: float, size: float) -> None:
    draw = ImageDraw.Draw(image)
    shadow(image, (x - size * 0.2, y - size * 0.12, x + size * 1.75, y + size * 0.14))

    def part(points: list[tuple[float, float]], colour: tuple) -> None:
        draw.polygon([(x + size * u, y - size * v) for u, v in points], fill=colour)

    part([(0, 0), (0, 0.75), (0.8, 0.75), (0.8, 0)], (240, 222, 186))
    part([(0.8, 0), (0.8, 0.75), (1.5, 0.75), (1.5, 0)], (206, 186, 150))
    part([(-0.08, 0.72), (0.4, 1.25), (0.88, 0.72)], (232, 210, 172))
    part([(0.4, 1.25), (0.88, 0.72), (1.58, 0.72), (1.12, 1.25)], (178, 74, 54))
    part([(-0.12, 0.7), (0.38, 1.28), (0.44, 1.28), (-0.02, 0.7)], (150, 58, 44))
    part([(0.28, 0), (0.28, 0.45), (0.52, 0.45), (0.52, 0)], (72, 96, 140))
    for left in (0.95, 1.22):
        part([(left, 0.28), (left, 0.55), (left + 0.17, 0.55), (left + 0.17, 0.28)], (250, 248, 238))
        part(
            [(left + 0.02, 0.3), (left + 0.02, 0.53), (left + 0.15, 0.53), (left + 0.15, 0.3)], (96, 126, 152)
        )
    part([(1.1, 1.1), (1.1, 1.42), (1.22, 1.42), (1.22, 1.1)], (142, 70, 56))


def box(image: Image.Image, x: float, y: float, size: float) -> None:
    draw = ImageDraw.Draw(image)
    shadow(image, (x - size * 0.1, y - size * 0.12, x + size * 1.7, y + size * 0.2))
    for points, colour in (
        ([(0, 0), (0, 1), (1, 1), (1, 0)], (52, 104, 196)),
        ([(0, 1), (0.35, 1.25), (1.35, 1.25), (1, 1)], (112, 160, 232)),
        ([(1, 0), (1, 1), (1.35, 1.25), (1.35, 0.25)], (34, 72, 146)),
        ([(0.43, 0), (0.43, 1), (0.57, 1), (0.57, 0)], (248, 214, 92)),
        ([(0.43, 1), (0.78, 1.25), (0.92, 1.25), (0.57, 1)], (252, 228, 138)),
    ):
        draw.polygon([(x + size * u, y - size * v) for u, v in points], fill=colour)


def flowers(image: Image.Image, rng: np.random.Generator, count: int) -> None:
    draw = ImageDraw.Draw(image)
    width, height = image.size
    for depth in np.sort(rng.uniform(0.66, 0.99, count)):
        x, y, r = rng.uniform(0, width), depth * height, width * 0.006 * (depth - 0.4)
        petal = [(250, 250, 244), (250, 216, 72), (226, 120, 170)][rng.integers(3)]
        for i in range(5):
            dx, dy = 1.3 * r * math.cos(1.257 * i), 0.9 * r * math.sin(1.257 * i)
            draw.ellipse((x + dx - r, y + dy - r, x + dx + r, y + dy + r), fill=petal)
        draw.ellipse((x - r * 0.7, y - r * 0.7, x + r * 0.7, y + r * 0.7), fill=(214, 150, 40))


def still(width: int = 640, height: int = 480) -> Image.Image:
    rng = np.random.default_rng(7)
    image = background(rng, width * SCALE, height * SCALE)
    unit = width * SCALE
    ImageDraw.Draw(image).ellipse((unit * 0.8, unit * 0.05, unit * 0.9, unit * 0.15), fill=(255, 240, 176))
    house(image, unit * 0.36, unit * 0.50, unit * 0.16)
    tree(image, rng, unit * 0.12, unit * 0.52, unit * 0.17)
    tree(image, rng, unit * 0.80, unit * 0.49, unit * 0.12)
    tree(image, rng, unit * 0.91, unit * 0.51, unit * 0.14)
    flowers(image, rng, 90)
    box(image, unit * 0.66, unit * 0.68, unit * 0.13)
    ball(image, unit * 0.26, unit * 0.62, unit * 0.075, (212, 44, 40))
    ball(image, unit * 0.47, unit * 0.66, unit * 0.042, (246, 176, 40))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def frames(count: int, width: int = 320, height: int = 240):
    """The ball enters at the left edge and leaves at the right one, turning as it rolls."""
    rng = np.random.default_rng(11)
    scene = background(rng, width * SCALE, height * SCALE)
    unit = width * SCALE
    tree(scene, rng, unit * 0.84, unit * 0.49, unit * 0.13)
    radius = unit * 0.075
    for i in range(count):
        image = scene.copy()
        x = -radius + (unit + 2 * radius) * i / (count - 1)
        ball(image, x, unit * 0.58, radius, (212, 44, 40), turn=x / radius)
        yield image.resize((width, height), Image.Resampling.LANCZOS)


def write_video(path: Path, seconds: int = 3, rate: int = 15) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"crf": "27", "preset": "slow", "threads": "1"}
        for image in frames(seconds * rate):
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    still().save(folder / "sample.jpg", quality=80, optimize=True)
    write_video(folder / "sample.mp4")
    for name in ("sample.jpg", "sample.mp4"):
        print(f"{folder / name}: {(folder / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
