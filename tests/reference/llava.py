"""What LLaVA-OneVision and LLaVA-NeXT share: tower, projector on the survivors, layout, positions."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.reference.layouts import Shrunk, faithful_layout, grid_layout, padding_cells
from tests.reference.tower import Cell, thin_out, tower_tile
from tests.reference.values import Counts, Encoded, Medium, Schedule, length_of


def encode(model, medium: Medium, schedule: Schedule, shrunk: Shrunk) -> Encoded:
    """Every tile or frame through tower and projector, then all of them through a layout."""
    core, config = model.model, model.config
    side = config.vision_config.image_size // config.vision_config.patch_size
    faithful = schedule.layout == "faithful"
    if schedule.positions == "original" and not faithful:
        raise ValueError("original positions are not defined in the grid layout")
    padding = padding_cells(medium, config) if faithful else [set() for _ in medium.pixel_values]
    tiles, kept, seen = [], [], []
    for pixels, padded in zip(medium.pixel_values.to(model.dtype), padding, strict=True):
        x, cells, scores, kept_by_layer, last = tower_tile(
            core.vision_tower, pixels, schedule, config, padded
        )
        features = core.multi_modal_projector(x)
        tiles.append([Cell(*divmod(c, side), f, s) for c, f, s in zip(cells, features, scores, strict=True)])
        kept.append(kept_by_layer)
        seen.append(last)
    counts = Counts(patches=len(tiles) * side * side, vision_kept=sum(len(tile) for tile in tiles))
    if schedule.input:
        marks = [
            {i for i, cell in enumerate(tile) if cell.y * side + cell.x in padded}
            for tile, padded in zip(tiles, padding, strict=True)
        ]
        tiles = thin_out(tiles, seen, marks, *schedule.input)
    fewer = sum(len(tile) for tile in tiles) < counts.patches
    if faithful and fewer:
        tokens, length = faithful_layout(medium, tiles, core.image_newline, config, shrunk)
    else:
        tokens = grid_layout(medium, tiles, core.image_newline, config, shrunk)
        length = len(tokens)
    return Encoded(medium, tokens, length, counts, kept)


def positions(model, pieces: list) -> Tensor:
    """(1, L): of every token without merging, one after another."""
    return torch.arange(sum(length_of(piece) for piece in pieces))[None]


def stock_inputs(model, images: list[Medium], videos: list[Medium]) -> dict:
    """Media as the unmodified model takes them."""
    inputs = {}
    if images:
        most = max(len(m.pixel_values) for m in images)
        inputs["pixel_values"] = torch.stack(
            [torch.cat([m.pixel_values, torch.zeros(most - len(m.pixel_values), 3, 84, 84)]) for m in images]
        )
        inputs["image_sizes"] = torch.tensor([m.size for m in images])
        if model.config.model_type == "llava_next":
            return inputs
        # HF tiles images that come alone and leaves those that come together.
        squares = sum(m.kind == "square" for m in images)
        assert [m.kind for m in images] == ["anyres"] * (len(images) - squares) + ["square"] * squares
        inputs["batch_num_images"] = torch.tensor(
            [1] * (len(images) - squares) + [max(squares, 2)] * (squares > 0)
        )
    if videos:
        inputs["pixel_values_videos"] = torch.stack([m.pixel_values for m in videos])
    return inputs
