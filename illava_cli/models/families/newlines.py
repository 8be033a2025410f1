"""The embedding that the LLaVA families put behind an image, a video, or each row of one."""

from __future__ import annotations

import torch
from torch import Tensor

from illava_cli.models.forms import Layout


def with_final_newline(tokens: Tensor, place: Tensor, length: int, newline: Tensor) -> Layout:
    """Tokens (n, C) at their places (n,), and a newline in the last of `length`."""
    embeds = torch.cat([tokens, newline[None]])
    place = torch.cat([place, place.new_full((1,), length - 1)])
    is_newline = torch.arange(len(embeds), device=tokens.device) == len(tokens)
    return Layout(embeds, place, is_newline, length)


def with_row_newlines(
    features: Tensor,
    row: Tensor,
    column: Tensor,
    rows: int,
    columns: int,
    newline: Tensor,
    ending: Tensor | None = None,
) -> Layout:
    """Survivors (n, C) at their cells of a grid, each of whose rows keeps its newline.

    Args:
        ending: the rows that are left; None: all of them.
    """
    width = columns + 1
    ending = torch.arange(rows, device=row.device) if ending is None else ending
    place = torch.cat([row * width + column, ending * width + columns])
    is_newline = torch.arange(len(place), device=row.device) >= len(row)
    order = place.argsort(stable=True)
    embeds = torch.cat([features, newline.expand(len(ending), -1)])[order]
    return Layout(embeds, place[order], is_newline[order], rows * width, order)
