"""LLaVA-OneVision: the grid of an image of many tiles is shrunk."""

import math

from tests.reference import llava
from tests.reference.values import Encoded, Medium, Schedule


def shrunk(height: int, width: int, side: int, config) -> tuple[int, int]:
    """The size HF interpolates an unpadded grid to (its own size where HF does not)."""
    most_tiles = int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
    ratio = math.sqrt(height * width / (most_tiles * side**2))
    return (int(height // ratio), int(width // ratio)) if ratio > 1.1 else (height, width)


def encode(model, medium: Medium, schedule: Schedule) -> Encoded:
    """As `llava.encode`."""
    return llava.encode(model, medium, schedule, shrunk)


positions, packs, TYPED = llava.positions, True, False
stock_inputs = llava.stock_inputs
