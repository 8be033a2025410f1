"""Several questions about the same media in one sequence, for training.

Turns that are `apart` see the media and themselves only, and each begins at the position after the media:
every turn is then exactly a first turn, and none learns from another's answer. Otherwise they are one chat.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

NO_LOSS = -100


@dataclass(frozen=True)
class Row:
    """One sequence of T tokens.

    Args:
        labels: the tokens that are learnt, `NO_LOSS` elsewhere.
        turns: the number of each token's turn; -1 for what all see.
        begins: of each turn the place of its first token, and of the last before its answer.
    """

    ids: list[int]
    labels: list[int]
    positions: list[int]
    turns: list[int]
    begins: list[tuple[int, int]]


def lay_out(media: list[int], turns: Iterable[tuple[list[int], list[int]]], apart: bool) -> Row:
    """The media's tokens, then of each turn what is asked and what is said."""
    ids, labels, numbers = list(media), [NO_LOSS] * len(media), [-1] * len(media)
    positions, begins = list(range(len(media))), []
    for number, (asked, said) in enumerate(turns):
        first = len(media) if apart else len(ids)
        begins.append((len(ids), len(ids) + len(asked) - 1))
        positions += range(first, first + len(asked) + len(said))
        ids += asked + said
        labels += [NO_LOSS] * len(asked) + said
        numbers += [number if apart else -1] * (len(asked) + len(said))
    return Row(ids, labels, positions, numbers, begins)


@dataclass(frozen=True)
class Batch:
    """Rows as tensors (B, T), padded at their ends; `mask` (B, 1, T, T) is True where a token sees another.

    Args:
        answered: the A places that predict a token of an answer; `target` (A,) says which, `numbers` (A,) of
            which answer, counted over the batch.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    answered: Tensor
    target: Tensor
    numbers: Tensor


def mask_for(model, visible: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as the back end of a model's attention takes it: `eager` adds whatever it is given."""
    if model.config._attn_implementation != "eager":
        return visible
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


def collate(rows: list[Row], device: torch.device) -> Batch:
    """Rows of different lengths as one batch."""
    length = max(len(row.ids) for row in rows)

    def padded(name: str, value: int) -> Tensor:
        values = [getattr(row, name) for row in rows]
        return torch.tensor([one + [value] * (length - len(one)) for one in values], device=device)

    labels, turns = padded("labels", NO_LOSS), padded("turns", -2)
    steps = torch.arange(length, device=device)
    visible = (turns[:, None, :] == -1) | (turns[:, None, :] == turns[:, :, None])
    mask = (visible & (steps[None, :] <= steps[:, None]))[:, None]
    target = F.pad(labels[:, 1:], (0, 1), value=NO_LOSS)  # the token that each place predicts
    answered = target != NO_LOSS
    begins = answered & ~F.pad(answered, (1, 0))[:, :-1]
    numbers = begins.flatten().cumsum(0).view_as(begins)[answered] - 1
    return Batch(padded("ids", 0), padded("positions", 0), mask, answered, target[answered], numbers)
