"""Pictures that are dark but for one bright rectangle, and the cells that a tower sees of them."""

import numpy as np
import torch
from PIL import Image

from illava_cli.models.media import Pixels


def bright(width: int, height: int, box=None) -> Image.Image:
    """A dark picture, white within `box` (left, top, width, height; whole pixels)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    if box is not None:
        left, top, across, down = box
        pixels[max(top, 0) : max(top + down, 0), max(left, 0) : max(left + across, 0)] = 255
    return Image.fromarray(pixels)


def seen(session, pixels: Pixels) -> torch.Tensor:
    """(segments, cells, values) what the tower gets of each cell."""
    values = pixels.pixel_values(0, pixels.segments)
    family = session.family
    if values.ndim == 4 and family.patches_per_token > 1:  # tiles of groups
        side = pixels.form.side
        cells = values.unflatten(3, (side, -1)).unflatten(2, (side, -1))  # (S, 3, rows, h, columns, w)
        return cells.permute(0, 2, 4, 1, 3, 5).reshape(pixels.segments, side**2, -1)
    if family.patches_per_token > 1:  # a group's patches stand together
        return values.reshape(pixels.segments, pixels.tokens, -1)
    side, patch = family.tile.side, family.tile.patch
    values = (
        values[..., : side * patch, : side * patch].unflatten(3, (side, patch)).unflatten(2, (side, patch))
    )
    return values.permute(0, 2, 4, 1, 3, 5).reshape(pixels.segments, side**2, -1)
