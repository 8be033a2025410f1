"""How many patches of a page of text enter the tower, and what deciding takes: the figures of docs/video.md.

    python scripts/page_patches.py

The page has 1240x1754 pixels, white, with lines of words in Pillow's own font, paragraphs and margins. Times
are medians of nine.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from illava_cli.config.options import MediaOptions, ModelOptions
from illava_cli.config.presets import load_preset
from illava_cli.models.entering import sampled, unpredicted
from illava_cli.models.loading import random_family

SHAPES = ("llava-onevision-7b", "qwen2.5-vl-7b", "qwen3-vl-8b", "internvl3-8b", "gemma-4-e4b")
WORDS = "the of merging tokens tower page report total figure account which between survey results table"
SIZE, MARGIN, LINE, LETTERS = (1240, 1754), 120, 34, 22
ROUNDS = 9


def page() -> Image.Image:
    rng, font, words = np.random.default_rng(0), ImageFont.load_default(LETTERS), WORDS.split()
    image = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(image)
    for number, y in enumerate(range(MARGIN, SIZE[1] - MARGIN, LINE)):
        x = MARGIN
        while number % 9 != 8 and x < SIZE[0] - 1.5 * MARGIN:
            word = str(rng.choice(words))
            pen.text((x, y), word, fill=(20, 20, 20), font=font)
            x += int(pen.textlength(word + " ", font=font))
    return image


def main() -> None:
    image = page()
    every = load_preset("documents").reduction.pixels.every
    print(
        "| shape | patches or groups | not predicted | under documents | preprocessing | deciding | share |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in SHAPES:
        about = ModelOptions(id=f"random:{name}"), torch.device("meta"), torch.bfloat16, "sdpa"
        family, made, decided = random_family(*about), [], []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            pixels = family.preprocess_image(image, MediaOptions(), alone=True)
            pixels.pixel_values(0, pixels.segments)
            ready = time.perf_counter()
            entered = unpredicted(pixels, pixels.shown, 0)
            made.append(ready - started), decided.append(time.perf_counter() - ready)
        times = f"{1e3 * median(made):.0f} ms | {1e3 * median(decided):.1f} ms"
        share = median(decided) / median(made)
        counts = [entered.numel(), *(int(one.sum()) for one in (entered, entered | sampled(pixels, every)))]
        print(f"| {name} | {' | '.join(map(str, counts))} | {times} | {share:.1%} |")


if __name__ == "__main__":
    main()
