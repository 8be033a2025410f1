"""Rows of unlike prompts as one batch, with everything the decoder loop has to know."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from illava_cli.engine.closing import Room, closed_up
from illava_cli.models.family import Family
from illava_cli.models.host import to_device
from illava_cli.models.media import Features
from illava_cli.models.prefill import Prefill
from illava_cli.models.schedule import MergePoint
from illava_cli.trace import TEXT, DecoderTrace


@dataclass(frozen=True)
class Shown:
    """An encoded medium, or a part of one, in its place; parts of one medium have the same `medium`."""

    medium: Hashable
    features: Features

    def __len__(self) -> int:
        return len(self.features.embeds)


@dataclass(frozen=True)
class Row:
    """One prompt: token ids and encoded media in order, from position `start` on.

    Args:
        room: for its positions; None: they stay as they are.
    """

    parts: list[list[int] | Shown]
    start: int = 0
    room: Room | None = None


@dataclass(frozen=True)
class _Laid:
    embeds: Tensor  # (T, C)
    kinds: Tensor  # (T,)
    groups: Tensor  # (T,)
    counts: list[int]
    positions: Tensor  # (axes, T)
    next_position: int
    reach: tuple[int, int]
    span: tuple[int, int]
    injections: dict[int, Tensor]  # (T, C)


def assemble(
    family: Family,
    rows: list[Row],
    merge_points: dict[int, MergePoint],
    *,
    packed: bool,
    scope: str = "medium",
    trace: DecoderTrace | None = None,
) -> Prefill:
    """New tokens of all rows, filled up on the right.

    Args:
        packed: number the tokens consecutively; else each keeps the position of its place in the
            unmerged sequence.
        scope: `medium` (each ranks its own tokens) or `all` (those of a row together).
    """
    laid = [_laid(family, row, packed, scope) for row in rows]
    lengths = [len(one.embeds) for one in laid]

    def filled(name: str, value: int = 0) -> Tensor:
        """(B, T, ...) of what a row has under that name, which is (T,) or (T, C)."""
        parts = [getattr(one, name) for one in laid]
        return pad_sequence(parts, batch_first=True, padding_value=value)

    positions = pad_sequence([one.positions.T for one in laid], batch_first=True).permute(2, 0, 1)
    return Prefill(
        embeds=filled("embeds"),
        position_ids=positions if family.rope_axes > 1 else positions[0],  # (axes, B, T)
        lengths=lengths,
        next_position=[one.next_position for one in laid],
        reach=[one.reach for one in laid],
        kinds=filled("kinds", TEXT),
        groups=filled("groups", -1),
        counts=[one.counts for one in laid],
        span=(min(one.span[0] for one in laid), max(one.span[1] for one in laid)),
        merge_points=merge_points,
        injections=_filled_injections(laid),
        trace=trace,
    )


def _filled_injections(laid: list[_Laid]) -> dict[int, Tensor]:
    """(B, T, C) by decoder layer, 0 where a row or a token has none."""
    layers = {layer for one in laid for layer in one.injections}
    found = {}
    for layer in sorted(layers):
        rows = [one.injections.get(layer, torch.zeros_like(one.embeds)) for one in laid]
        found[layer] = pad_sequence(rows, batch_first=True)
    return found


def _laid(family: Family, row: Row, packed: bool, scope: str) -> _Laid:
    device = family.device
    embeds, kinds, groups, places = [], [], [], []
    counts: list[int] = []
    group_of: dict[Hashable, int] = {}  # parts of a medium rank together
    media: list[tuple[int, Features]] = []
    length = unmerged = 0
    span = []
    injected: list[tuple[int, Features]] = []
    for part in row.parts:
        if isinstance(part, list):
            tokens = len(part)
            embeds.append(family.embed(to_device(part, device)))
            kinds.append(torch.full((tokens,), TEXT, dtype=torch.int8, device=device))
            groups.append(torch.full((tokens,), -1, device=device))
            places.append(torch.arange(unmerged, unmerged + tokens, device=device))
            unmerged += tokens
        else:
            one, tokens = part.features, len(part)
            group = group_of.setdefault(part.medium if scope == "medium" else None, len(counts))
            if group == len(counts):
                counts.append(0)
            counts[group] += one.candidates
            media.append((unmerged, one))
            span += [length, length + tokens]
            if one.injections:
                injected.append((length, one))
            fed = family.fed(one.embeds)
            embeds.append(fed.to(embeds[0].dtype) if embeds else fed)
            kinds.append(one.kinds)
            groups.append(torch.where(one.rankable, group, -1))
            places.append(one.place + unmerged)
            unmerged += one.length
        length += tokens
    if packed:
        positions = torch.arange(length, device=device)[None].expand(family.rope_axes, -1)
        next_position = unclosed = closed = length
    else:
        unpacked = family.positions(unmerged, media)
        next_position = int(unpacked[0, -1]) + 1  # a prompt ends with text
        positions = to_device(unpacked, device)[:, torch.cat(places)]
        unclosed = closed = max(next_position, int(unpacked.max()) + 1)  # time may run on beside the text
        # a prompt that nothing has left keeps the positions of the unmodified model
        if length < unmerged and row.room is not None and row.start + unclosed > row.room.most:
            end, of = row.room.wanted - row.start, _part_of(row.parts, device)
            positions, next_position = closed_up(positions, of, next_position, end)
            closed = max(next_position, int(positions.max()) + 1)
    whole = torch.cat(embeds)
    return _Laid(
        embeds=whole,
        kinds=torch.cat(kinds),
        groups=torch.cat(groups),
        counts=counts,
        positions=positions + row.start,
        next_position=row.start + next_position,
        reach=(row.start + unclosed, row.start + closed),
        span=(min(span), max(span)) if span else (0, 0),
        injections=_injections(whole, injected),
    )


def _part_of(parts: list[list[int] | Shown], device: torch.device) -> Tensor:
    """(T,) which part each token is of; -1: text."""
    numbers = [-1 if isinstance(part, list) else number for number, part in enumerate(parts)]
    lengths = [len(part) for part in parts]
    return torch.tensor(numbers, device=device).repeat_interleave(torch.tensor(lengths, device=device))


def _injections(embeds: Tensor, media: list[tuple[int, Features]]) -> dict[int, Tensor]:
    """(T, C) by decoder layer, of media from where they start in a row; 0 at all other tokens."""
    found: dict[int, Tensor] = {}
    for start, features in media:
        for layer, values in features.injections.items():
            row = found.setdefault(layer, torch.zeros_like(embeds))
            row[start : start + len(values)] = values
    return found
