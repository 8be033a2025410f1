"""Attention within windows, as in most blocks of Qwen2.5-VL's tower.

`transformers` sorts the tokens by window before the first block and back after the last. Only attention
looks at other tokens, so here they stay in raster order, and queries, keys and values alone are sorted:
into windows of equal size whose empty cells are masked. Windows at an image's edge are smaller, and after a
merge each holds what is left of it, a number that the host does not know. With empty cells it need not:
nothing is copied from the device, and the empty cells cost attention among the few patches of a window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from illava_cli.models.tokens import Tokens, aligned


def window_cells(grid: tuple[int, int], side: int, device: torch.device | str = "cpu") -> Tensor:
    """The cell of each token, (N,) in raster order: `side`**2 cells a window, the windows in raster order.

    Args:
        grid: rows and columns of tokens.
        side: rows and columns of a window.
    """
    rows, columns = (torch.arange(n, device=device) for n in grid)
    across = -(-grid[1] // side)
    window = (rows // side)[:, None] * across + columns // side
    inside = (rows % side)[:, None] * side + columns % side
    return (window * side**2 + inside).flatten()


@dataclass(frozen=True)
class Windows(Tokens):
    """The tokens of B segments in their windows; a survivor stays in that of its anchor.

    Args:
        cell: (B, N) cell of each token, counted over its segment's windows.
        count: W, windows of a segment.
        size: S, cells of a window.
        group: patches per token.
        dtype: of the mask.
        ragged: there are empty cells.
        index: (B * N,) cell of each token, counted over all segments.
        valid: (B * W, S * group) which places of a window hold a patch.
        mask: (B * W, 1, 1, S * group) to add to the logits, the same from merge to merge; None where every
            cell is held.
    """

    cell: Tensor = aligned("keep")
    count: int
    size: int
    group: int
    dtype: torch.dtype
    ragged: bool = field(init=False)
    index: Tensor = field(init=False)
    valid: Tensor = field(init=False)
    mask: Tensor | None = field(init=False)

    def __post_init__(self):
        segments, cells = len(self.cell), self.count * self.size
        first = torch.arange(segments, device=self.cell.device)[:, None] * cells
        index = (self.cell + first).flatten()
        held = torch.zeros(segments * cells, dtype=torch.bool, device=index.device)
        valid = held.index_fill_(0, index, True).view(-1, self.size).repeat_interleave(self.group, dim=1)
        object.__setattr__(self, "ragged", self.cell.shape[1] < cells)
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "valid", valid)
        mask = None
        if self.ragged:
            mask = torch.zeros(valid.shape, dtype=self.dtype, device=index.device)
            mask = mask.masked_fill_(~valid, torch.finfo(self.dtype).min)[:, None, None]
        object.__setattr__(self, "mask", mask)

    @staticmethod
    def of(
        grid: tuple[int, int],
        side: int,
        segments: int,
        group: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Windows:
        """All tokens of segments of one `grid`, (rows, columns)."""
        count = -(-grid[0] // side) * -(-grid[1] // side)
        cell = window_cells(grid, side, device).expand(segments, -1)
        return Windows(cell, count, side**2, group, dtype)

    def unpack(self, x: Tensor) -> Tensor:
        """(1, H, B * N * group, D) -> (B * W, H, S * group, D), zeros in empty cells."""
        tokens = x[0].transpose(0, 1).unflatten(0, (-1, self.group))  # (B * N, group, H, D)
        cells = tokens.new_zeros(self.valid.numel() // self.group, *tokens.shape[1:])
        cells.index_copy_(0, self.index, tokens)
        return cells.view(*self.valid.shape, *tokens.shape[2:]).transpose(1, 2)

    def pack(self, x: Tensor) -> Tensor:
        """(B * W, S * group, ...) -> (1, B * N * group, ...)."""
        cells = x.flatten(0, 1).unflatten(0, (-1, self.group))
        return cells.index_select(0, self.index).flatten(0, 1).unsqueeze(0)

    def spread(self, bias: Tensor) -> Tensor:
        """(B, N * group) -> (B * W, 1, 1, S * group), of each window's keys."""
        return self.unpack(bias.reshape(1, 1, -1, 1)).transpose(2, 3)

    def sorted(self) -> tuple[Tensor, Tensor]:
        """Patches window by window (B * N * group,), and the windows' borders among them (B * W + 1,)."""
        tokens = self.index.argsort()[:, None] * self.group
        patches = (tokens + torch.arange(self.group, device=tokens.device)).flatten()
        borders = torch.nn.functional.pad(self.valid.sum(1).cumsum(0, dtype=torch.int32), (1, 0))
        return patches, borders
