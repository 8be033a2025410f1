"""LLaVA-NeXT: an unpadded grid stays as large as it is."""

from tests.reference import llava
from tests.reference.values import Encoded, Medium, Schedule


def shrunk(height: int, width: int, side: int, config) -> tuple[int, int]:
    """As `llava_onevision.shrunk`."""
    return height, width


def encode(model, medium: Medium, schedule: Schedule) -> Encoded:
    """As `llava.encode`."""
    return llava.encode(model, medium, schedule, shrunk)


positions, packs, TYPED = llava.positions, True, False
stock_inputs = llava.stock_inputs
