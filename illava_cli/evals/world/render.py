"""Draws a scene with antialiasing at any resolution, and says how much of each cell a shape covers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from illava_cli.evals.world.glyphs import dots
from illava_cli.evals.world.scene import Background, Scene, Sign, Thing

SUPERSAMPLE = 4
INK, PAPER = (28, 28, 30), (240, 240, 236)


def draw(scene: Scene, width: int | None = None) -> Image.Image:
    """The scene as an RGB image `width` pixels wide (default: one per scene pixel), aspect kept."""
    zoom = (width or scene.width) / scene.width
    size = (round(scene.width * zoom), round(scene.height * zoom))
    image = paint_background(scene.background, size, zoom)
    paint = PAINTERS[scene.style]
    for thing in scene.things:
        paint(image, thing, zoom, scene.background)
    for sign in scene.signs:
        _paste_sign(image, sign, zoom)
    return image


def paint_background(background: Background, size: tuple[int, int], zoom: float) -> Image.Image:
    """A texture between the background's two colours, of `size` (width, height) pixels."""
    rng = np.random.default_rng(background.seed)
    width, height = size
    share = _TEXTURES[background.texture](rng, width, height, zoom)  # (H, W) in 0..1
    first, second = (np.array(c, dtype=np.float32) for c in (background.first, background.second))
    pixels = first + share[..., None].astype(np.float32) * (second - first)
    grain = Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    pixels += (np.asarray(grain, dtype=np.float32)[..., None] - 128) * 0.06
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _gradient(rng, width, height, zoom):
    angle = rng.uniform(0, 2 * math.pi)
    x, y = np.linspace(-0.5, 0.5, width)[None], np.linspace(-0.5, 0.5, height)[:, None]
    return np.clip(0.5 + (x * math.cos(angle) + y * math.sin(angle)) / 1.4, 0, 1)


def _stripes(rng, width, height, zoom):
    angle, period = rng.uniform(0, math.pi), rng.uniform(8, 24) * zoom
    x, y = np.arange(width)[None], np.arange(height)[:, None]
    return 0.5 + 0.5 * np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period)


def _checks(rng, width, height, zoom):
    period = rng.uniform(10, 24) * zoom
    x, y = np.arange(width)[None], np.arange(height)[:, None]
    return np.clip(0.5 + 2 * np.sin(2 * math.pi * x / period) * np.sin(2 * math.pi * y / period), 0, 1)


def _clouds(rng, width, height, zoom):
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32) / 255


_TEXTURES = {
    "plain": lambda rng, width, height, zoom: np.zeros((height, width), dtype=np.float32),
    "gradient": _gradient,
    "stripes": _stripes,
    "checks": _checks,
    "clouds": _clouds,
}


def outline(shape: str) -> list[tuple[float, float]] | None:
    """Corners of a shape of radius 1 about the origin, y downwards; None for the circle."""
    if shape == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if shape == "triangle":
        return [(0, -0.95), (0.95, 0.75), (-0.95, 0.75)]
    if shape == "cross":
        a, b = 0.32, 0.95
        return [
            (-a, -b),
            (a, -b),
            (a, -a),
            (b, -a),
            (b, a),
            (a, a),
            (a, b),
            (-a, b),
            (-a, a),
            (-b, a),
            (-b, -a),
            (-a, -a),
        ]
    if shape == "star":
        turns = [(math.pi * k / 5, 1.0 if k % 2 == 0 else 0.42) for k in range(10)]
        return [(r * math.sin(t), -r * math.cos(t)) for t, r in turns]
    return None


def shape_mask(thing: Thing, zoom: float) -> tuple[Image.Image, tuple[int, int]]:
    """Coverage (mode L) of the pixels about a shape, and the pixel at which its left upper corner lies."""
    radius, x, y = thing.radius * zoom, thing.x * zoom, thing.y * zoom
    left, top = math.floor(x - radius), math.floor(y - radius)
    edge = math.ceil(2 * radius) + 2
    fine = Image.new("L", (edge * SUPERSAMPLE, edge * SUPERSAMPLE))
    pen = ImageDraw.Draw(fine)
    u, v, r = (x - left) * SUPERSAMPLE, (y - top) * SUPERSAMPLE, radius * SUPERSAMPLE
    corners = outline(thing.shape)
    if corners is None:
        pen.ellipse((u - r * 0.92, v - r * 0.92, u + r * 0.92, v + r * 0.92), fill=255)
    else:
        pen.polygon([(u + r * a, v + r * b) for a, b in corners], fill=255)
    return fine.reduce(SUPERSAMPLE), (left, top)


def _paint_flat(image: Image.Image, thing: Thing, zoom: float, background: Background) -> None:
    mask, corner = shape_mask(thing, zoom)
    image.paste(thing.paint, corner, mask)


def _paint_outlined(image: Image.Image, thing: Thing, zoom: float, background: Background) -> None:
    """A dark edge, or a light one on dark ground."""
    mask, corner = shape_mask(thing, zoom)
    image.paste(PAPER if sum(background.first) < 3 * 110 else INK, corner, mask)
    _paint_flat(image, replace(thing, radius=0.8 * thing.radius), zoom, background)


def _paint_shaded(image: Image.Image, thing: Thing, zoom: float, background: Background) -> None:
    """Light from above: a quarter lighter at the top, a quarter darker at the bottom."""
    mask, corner = shape_mask(thing, zoom)
    light = np.linspace(1.25, 0.75, mask.height, dtype=np.float32)[:, None, None]
    pixels = np.clip(np.array(thing.paint, dtype=np.float32) * light, 0, 255)
    pixels = np.broadcast_to(pixels, (mask.height, mask.width, 3))
    image.paste(Image.fromarray(pixels.astype(np.uint8)), corner, mask)


def _paint_chalk(image: Image.Image, thing: Thing, zoom: float, background: Background) -> None:
    """Rubbed on: grainy within and at the edge."""
    mask, corner = shape_mask(thing, zoom)
    rng = np.random.default_rng([background.seed, round(1000 * thing.radius)])
    grain = rng.uniform(0.55, 1.0, (mask.height, mask.width))
    rubbed = Image.fromarray((np.asarray(mask) * grain).astype(np.uint8))
    image.paste(thing.paint, corner, rubbed)


PAINTERS = {
    "flat": _paint_flat,
    "outlined": _paint_outlined,
    "shaded": _paint_shaded,
    "chalk": _paint_chalk,
}


def _paste_sign(image: Image.Image, sign: Sign, zoom: float) -> None:
    left, top = math.floor(sign.x * zoom), math.floor(sign.y * zoom)
    size = math.ceil(sign.width * zoom) + 2, math.ceil(sign.height * zoom) + 2
    ink = dots(sign.text)
    plate = np.zeros((11, ink.shape[1] + 4), dtype=np.uint8)
    plate[2:9, 2:-2] = ink * 255
    # drawn by an affine map from fine pixels to dots, then averaged: smooth at any size and offset
    step = 1 / (sign.dot * zoom * SUPERSAMPLE)
    offset = [(left - sign.x * zoom) * SUPERSAMPLE * step, (top - sign.y * zoom) * SUPERSAMPLE * step]
    fine = (size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE)
    matrix = (step, 0, offset[0], 0, step, offset[1])
    paper = Image.new("L", plate.shape[::-1], 255)
    for cells, colour in (
        (paper, INK if sign.dark else PAPER),
        (Image.fromarray(plate), PAPER if sign.dark else INK),
    ):
        mask = cells.transform(fine, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST).reduce(
            SUPERSAMPLE
        )
        image.paste(colour, (left, top), mask)


def coverage(scene: Scene, cell: int) -> np.ndarray:
    """(things, rows, columns) share of each `cell` x `cell` square of the scene under each thing, 0..1."""
    rows, columns = scene.height // cell, scene.width // cell
    shares = np.zeros((len(scene.things), rows, columns), dtype=np.float32)
    for share, thing in zip(shares, scene.things, strict=True):
        canvas = Image.new("L", (scene.width, scene.height))
        mask, corner = shape_mask(thing, 1.0)
        canvas.paste(mask, corner)
        share[:] = np.asarray(canvas.reduce(cell), dtype=np.float32) / 255
    return shares
