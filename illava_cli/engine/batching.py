"""Rows of unlike prompts as one left-padded batch, with everything the decoder loop has to know."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from illava_cli.models.cache import TEXT, Prefill
from illava_cli.models.family import Family
from illava_cli.models.host import to_device
from illava_cli.models.media import Features
from illava_cli.models.schedule import MergePoint
from illava_cli.trace import DecoderTrace

Part = list[int] | Features


@dataclass(frozen=True)
class Row:
    """One prompt: token ids and encoded media in order, from position `start` on."""

    parts: list[Part]
    start: int = 0


@dataclass(frozen=True)
class _Sequence:
    embeds: Tensor  # (T, C)
    kinds: Tensor  # (T,)
    groups: Tensor  # (T,)
    counts: list[int]
    positions: Tensor  # (axes, T) on the CPU side of the loop's input
    next_position: int
    span: tuple[int, int]


def assemble(
    family: Family,
    rows: list[Row],
    merge_points: dict[int, MergePoint],
    *,
    packed: bool,
    scope: str = "medium",
    trace: DecoderTrace | None = None,
) -> tuple[Tensor, Prefill]:
    """Embeddings (B, T, C) of new tokens, left-padded, and their `Prefill`.

    Args:
        packed: number the tokens consecutively; else each keeps the position of its place in the
            unmerged sequence.
        scope: `medium` (each ranks its own tokens) or `all` (those of a row together).
    """
    sequences = [_sequence(family, row, packed, scope) for row in rows]
    longest = max(len(s.embeds) for s in sequences)
    padding = [longest - len(s.embeds) for s in sequences]
    left = list(zip(sequences, padding, strict=True))
    positions = torch.stack([pad(s.positions, (n, 0)) for s, n in left], dim=1)  # (axes, B, T)
    prefill = Prefill(
        position_ids=positions if family.rope_axes > 1 else positions[0],
        next_position=[s.next_position for s in sequences],
        padding=padding,
        kinds=torch.stack([pad(s.kinds, (n, 0), value=TEXT) for s, n in left]),
        groups=torch.stack([pad(s.groups, (n, 0), value=-1) for s, n in left]),
        counts=[s.counts for s in sequences],
        span=(min(s.span[0] + n for s, n in left), max(s.span[1] + n for s, n in left)),
        merge_points=merge_points,
        trace=trace,
    )
    return torch.stack([pad(s.embeds, (0, 0, n, 0)) for s, n in left]), prefill


def _sequence(family: Family, row: Row, packed: bool, scope: str) -> _Sequence:
    device = family.device
    embed = family.model.get_input_embeddings()
    embeds, kinds, groups, places = [], [], [], []
    counts: list[int] = []
    media: list[tuple[int, Features]] = []
    length = unmerged = 0
    span = []
    for part in row.parts:
        if isinstance(part, list):
            tokens = len(part)
            embeds.append(embed(to_device(part, device)))
            kinds.append(torch.full((tokens,), TEXT, dtype=torch.int8, device=device))
            groups.append(torch.full((tokens,), -1, device=device))
            places.append(torch.arange(unmerged, unmerged + tokens, device=device))
            unmerged += tokens
        else:
            tokens = len(part.embeds)
            if scope == "medium" or not counts:
                counts.append(0)
            group = len(counts) - 1
            counts[group] += part.candidates
            media.append((unmerged, part))
            span += [length, length + tokens]
            embeds.append(part.embeds.to(embeds[0].dtype) if embeds else part.embeds)
            kinds.append(part.kinds)
            groups.append(torch.where(part.rankable, group, -1))
            places.append(part.place + unmerged)
            unmerged += part.length
        length += tokens
    if packed:
        positions = torch.arange(length, device=device)[None].expand(family.rope_axes, -1)
        next_position = length
    else:
        whole = family.positions(unmerged, media)
        next_position = int(whole[0, -1]) + 1  # a prompt ends with text
        positions = to_device(whole, device)[:, torch.cat(places)]
    return _Sequence(
        embeds=torch.cat(embeds),
        kinds=torch.cat(kinds),
        groups=torch.cat(groups),
        counts=counts,
        positions=positions + row.start,
        next_position=row.start + next_position,
        span=(min(span), max(span)) if span else (0, 0),
    )
