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
from illava_cli.models.media import Features, Run
from illava_cli.models.prefill import Prefill
from illava_cli.models.schedule import MergePoint
from illava_cli.trace import TEXT, DecoderTrace


@dataclass(frozen=True)
class Shown:
    """The place of an encoded medium, or of the next of its runs, which all have the same `medium`."""

    medium: Hashable
    features: Features


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
    where: dict[Hashable, Tensor]  # (T',)


def assemble(
    family: Family,
    rows: list[Row],
    merge_points: dict[int, MergePoint],
    *,
    packed: bool,
    scope: str = "medium",
    trace: DecoderTrace | None = None,
) -> tuple[Prefill, list[dict[Hashable, Tensor]]]:
    """New tokens of all rows, filled up on the right, and where in each row the tokens of its media stand.

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
    new = Prefill(
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
    return new, [one.where for one in laid]


def _filled_injections(laid: list[_Laid]) -> dict[int, Tensor]:
    """(B, T, C) by decoder layer, 0 where a row or a token has none."""
    layers = {layer for one in laid for layer in one.injections}
    found = {}
    for layer in sorted(layers):
        rows = [one.injections.get(layer, torch.zeros_like(one.embeds)) for one in laid]
        found[layer] = pad_sequence(rows, batch_first=True)
    return found


def _laid(family: Family, row: Row, packed: bool, scope: str) -> _Laid:
    device, walk = family.device, _Walk(row)
    embeds, kinds, groups, places = [], [], [], []
    counts: list[int] = []
    group_of: dict[Hashable, int] = {}
    where: dict[Hashable, Tensor] = {}
    injected: list[tuple[int, Features]] = []
    length = 0
    for begin, part in walk.pieces:
        if isinstance(part, list):
            tokens = len(part)
            embeds.append(family.embed(to_device(part, device)))
            kinds.append(torch.full((tokens,), TEXT, dtype=torch.int8, device=device))
            groups.append(torch.full((tokens,), -1, device=device))
            places.append(torch.arange(begin, begin + tokens, device=device))
        else:
            one, tokens = part.features, len(part.features.embeds)
            where[part.medium] = torch.arange(length, length + tokens, device=device)
            group = group_of.setdefault(part.medium if scope == "medium" else None, len(counts))
            if group == len(counts):
                counts.append(0)
            counts[group] += one.candidates
            if one.injections:
                injected.append((length, one))
            fed = family.fed(one.embeds)
            embeds.append(fed.to(embeds[0].dtype) if embeds else fed)
            kinds.append(one.kinds)
            groups.append(torch.where(one.rankable, group, -1))
            places.append(one.placed(walk.begins[part.medium]))
        length += tokens
    laid = [torch.cat(parts) for parts in (embeds, kinds, groups, places)]
    injections = _injections(laid[0], injected)
    if walk.mixed:
        # how many of a medium's tokens stand before each text among them the device alone knows
        order = laid[-1].argsort()
        laid = [x[order] for x in laid]
        injections = {layer: x[order] for layer, x in injections.items()}
        now = order.argsort()
        where = {medium: now[index] for medium, index in where.items()}
    embedded, kind, group, place = laid
    if packed:
        positions = torch.arange(length, device=device)[None].expand(family.rope_axes, -1)
        next_position = unclosed = closed = length
    else:
        unpacked = family.positions(walk.length, walk.runs)
        next_position = int(unpacked[0, -1]) + 1  # a prompt ends with text
        positions = to_device(unpacked, device)[:, place]
        unclosed = closed = max(next_position, int(unpacked.max()) + 1)  # time may run on beside the text
        # a prompt that nothing has left keeps the positions of the unmodified model
        if length < walk.length and row.room is not None and row.start + unclosed > row.room.most:
            end = row.room.wanted - row.start
            positions, next_position = closed_up(positions, walk.run_of(place), next_position, end)
            closed = max(next_position, int(positions.max()) + 1)
    return _Laid(
        embeds=embedded,
        kinds=kind,
        groups=group,
        counts=counts,
        positions=positions + row.start,
        next_position=row.start + next_position,
        reach=(row.start + unclosed, row.start + closed),
        span=walk.span,
        injections=injections,
        where=where,
    )


class _Walk:
    """A row as the unmerged prompt has it, from what the host knows.

    Args:
        pieces: texts and media, each medium once, with the place at which each begins.
        begins: places at which the runs of each medium begin.
        runs: all of them, with theirs.
        length: unmerged.
        span: first and one-past-last index among what is left, from the first medium to the last.
    """

    def __init__(self, row: Row):
        self.pieces: list[tuple[int, list[int] | Shown]] = []
        self.begins: dict[Hashable, list[int]] = {}
        self.runs: list[tuple[int, Run]] = []
        self.length, self.span, left = 0, (0, 0), 0
        for part in row.parts:
            if isinstance(part, list):
                self.pieces.append((self.length, part))
                self.length, left = self.length + len(part), left + len(part)
                continue
            begins = self.begins.setdefault(part.medium, [])
            first = self.span[0] if self.runs else left
            if not begins:
                self.pieces.append((self.length, part))
                left += len(part.features.embeds)
            run = part.features.runs[len(begins)]
            begins.append(self.length)
            self.runs.append((self.length, run))
            self.length += run.length
            self.span = first, left

    @property
    def mixed(self) -> bool:
        """Whether text stands among the tokens of a medium."""
        return len(self.runs) > len(self.begins)

    def run_of(self, place: Tensor) -> Tensor:
        """(T,) the run that stands at each place (T,); -1: text."""
        begins, ends = to_device([[n, n + run.length] for n, run in self.runs], place.device).T.contiguous()
        run = torch.searchsorted(begins, place, right=True) - 1
        return run.where(place < ends[run.clamp(min=0)], -1)


def _injections(embeds: Tensor, media: list[tuple[int, Features]]) -> dict[int, Tensor]:
    """(T, C) by decoder layer, of media from where they start in a row; 0 at all other tokens."""
    found: dict[int, Tensor] = {}
    for start, features in media:
        for layer, values in features.injections.items():
            row = found.setdefault(layer, torch.zeros_like(embeds))
            row[start : start + len(values)] = values
    return found
