"""Pictures with their tokens, pixel for pixel, and sheets of them; drawn by Pillow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from illava_cli.drawing import VIRIDIS

VEIL, VEILED = (211, 212, 209), 0.72  # over cells that are gone: neither white nor black, as scenes may be
HEAT = 0.8  # how much of a heat map covers the picture
HATCH, HATCHED, HATCH_STEP = (125, 130, 138), (38, 40, 44), 8  # over cells without a token
INK, PAPER = (30, 31, 34), (255, 255, 255)
GAP, TEXT, MARGIN = 8, 15, 20


def mask(size: tuple[int, int], boxes: np.ndarray) -> np.ndarray:
    """(height, width) True within `boxes` (n, 4), in pixels; neighbours neither overlap nor gape."""
    inside = np.zeros((size[1], size[0]), bool)
    for left, top, right, bottom in _edges(boxes):
        inside[top:bottom, left:right] = True
    return inside


def veiled(image: Image.Image, gone: np.ndarray, dropped: np.ndarray) -> Image.Image:
    """The picture without what is `gone` (a mask): grey under a veil; what is `dropped` is hatched."""
    pixels = np.asarray(image).astype(np.float64)
    grey = pixels @ [0.299, 0.587, 0.114]
    veil = (1 - VEILED) * grey[..., None] + VEILED * np.array(VEIL)
    row, column = np.indices(gone.shape)
    stripe = ((row + column) % HATCH_STEP < 2)[..., None]
    pixels = np.where(gone[..., None], veil, pixels)
    pixels = np.where(dropped[..., None], np.where(stripe, HATCH, HATCHED), pixels)
    return Image.fromarray(pixels.round().astype(np.uint8))


def heated(image: Image.Image, boxes: np.ndarray, values: np.ndarray, top: float) -> Image.Image:
    """The picture under a heat map: `values` (n,) from 0 to `top` on `boxes` (n, 4); NaN stays veiled."""
    painted = np.asarray(image).astype(np.float64)
    ramp = np.array(VIRIDIS, np.float64)
    known = ~np.isnan(values)
    place = np.clip(np.nan_to_num(values) / (top or 1.0), 0, 1) * (len(ramp) - 1)
    low = np.minimum(place.astype(int), len(ramp) - 2)
    colour = ramp[low] + (place - low)[:, None] * (ramp[low + 1] - ramp[low])
    for (left, upper, right, lower), own, is_known in zip(_edges(boxes), colour, known, strict=True):
        if is_known:
            area = painted[upper:lower, left:right]
            area[:] = (1 - HEAT) * area + HEAT * own
    return Image.fromarray(painted.round().astype(np.uint8))


def top_of(values: np.ndarray) -> float:
    """What the strongest colour stands for: few cells take far more attention than the rest."""
    known = values[~np.isnan(values)]
    return float(np.percentile(known, 98)) if len(known) else 0.0


def sheet(rows: Sequence[Sequence[Image.Image]], columns: Sequence[str], names: Sequence[str]) -> Image.Image:
    """Pictures in rows, a word over each column and one before each row."""
    font = ImageFont.load_default(TEXT)
    label = max((int(font.getlength(name)) for name in names), default=0) + (GAP if any(names) else 0)
    across = [
        max(max(row[i].width for row in rows if i < len(row)), int(font.getlength(title)))
        for i, title in enumerate(columns)
    ]
    down = [max(image.height for image in row) for row in rows]
    head = TEXT + GAP if any(columns) else 0
    size = (
        2 * MARGIN + label + sum(across) + GAP * (len(across) - 1),
        2 * MARGIN + head + sum(down) + GAP * (len(down) - 1),
    )
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    lefts = [MARGIN + label + sum(across[:i]) + GAP * i for i in range(len(across))]
    for left, title in zip(lefts, columns, strict=True):
        draw.text((left, MARGIN), title, INK, font)
    top = MARGIN + head
    for name, row, height in zip(names, rows, down, strict=True):
        draw.text((MARGIN, top), name, INK, font)
        for left, image in zip(lefts, row, strict=False):
            canvas.paste(image, (left, top))
        top += height + GAP
    return canvas


def _edges(boxes: np.ndarray) -> list[list[int]]:
    """Left, top, right and bottom, whole pixels within the picture."""
    corners = np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    return np.rint(corners).astype(int).clip(min=0).tolist()
