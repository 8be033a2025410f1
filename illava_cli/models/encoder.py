"""Media through tower, projector and layout, in passes of bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from illava_cli.errors import MergeError
from illava_cli.models.clip import clip_plan, fewer_tokens
from illava_cli.models.family import Family
from illava_cli.models.forms import Expansion
from illava_cli.models.hf import versions
from illava_cli.models.host import to_device
from illava_cli.models.media import Features, Pixels
from illava_cli.models.schedule import Schedule, input_kept
from illava_cli.models.survivors import Survivors, in_one_row, thinned
from illava_cli.models.tower_pass import TowerPass, TowerTokens
from illava_cli.models.way import Way
from illava_cli.reduction import Merge
from illava_cli.trace import ENTER, NEWLINE, VISUAL, Tracing


@torch.inference_mode()
def encode(
    family: Family, media: Sequence[Pixels], schedules: Sequence[Schedule], *, trace: Tracing = False
) -> list[Features]:
    """Media through tower, projector and layout. Segments of one shape share passes.

    The passes are bounded in memory, so that a longer video does not need more of it.

    Args:
        schedules: of each medium.
        trace: keep the merges of each tower layer in `Features.way`, and the layout.

    Raises:
        MergeError: a reduction did not happen as scheduled.
    """
    together: dict[tuple, list[int]] = {}
    for index, (pixels, schedule) in enumerate(zip(media, schedules, strict=True)):
        # a pass is one schedule's as far as the tower and what comes right after it
        schedule = replace(schedule, decoder=(), scope="medium")
        alone = index if looks_at_all(pixels, schedule) else None
        together.setdefault((pixels.shape, schedule, pixels.entered is None, alone), []).append(index)
    features: dict[int, Features] = {}
    for (_, schedule, _, alone), indices in together.items():
        group = [media[i] for i in indices]
        encoding = Encoding(family, schedule, trace)
        found = encoding.apart(group) if alone is None else [encoding.over_clip(*group)]
        for index, pixels, survivors in zip(indices, group, found, strict=True):
            features[index] = decoder_tokens(family, pixels, survivors, schedule)
    return [features[i] for i in range(len(media))]


def looks_at_all(pixels: Pixels, schedule: Schedule) -> bool:
    """Whether what becomes of a frame depends on the others of its clip."""
    reason = schedule.clip or pixels.budget is not None or (schedule.frames and schedule.frames.layers)
    return pixels.kind == "video" and bool(reason)


Segment = tuple[Pixels, int]  # one of a medium


@dataclass(frozen=True)
class Encoding:
    """Segments on their way through tower and projector under one schedule."""

    family: Family
    schedule: Schedule
    trace: Tracing

    def apart(self, group: list[Pixels]) -> list[Survivors]:
        """Each medium's survivors, its segments looked at one by one; media of one shape."""
        wanted = [(pixels, segment) for pixels in group for segment in pixels.shown]
        pieces: dict[int, list[tuple[list[int], Survivors]]] = {}
        for segments in _by_length(wanted):
            survivors, start = self.through(segments), 0
            for medium, own in groupby(segments, key=lambda one: id(one[0])):
                numbers = [number for _, number in own]
                part = survivors.rows(slice(start, start + len(numbers)))
                pieces.setdefault(medium, []).append((numbers, self.finished(wanted[0][0], part)))
                start += len(numbers)
        return [self.in_one_row(pixels, pieces[id(pixels)]) for pixels in group]

    def over_clip(self, pixels: Pixels) -> Survivors:
        """A video's survivors, its frames looked at together, so many at a time."""
        family, schedule = self.family, self.schedule
        planned = clip_plan(pixels, schedule)
        rows, start, done, given = [], 0, 0, 0
        for size in planned.windows:
            window = [(pixels, segment) for segment in pixels.shown[start : start + size]]
            pieces = []
            for segments in _by_length(window):
                survivors = self.through(segments, ranked=planned.kept is not None)
                pieces.append(([number for _, number in segments], self.finished(pixels, survivors)))
            row, start = self.in_one_row(pixels, pieces), start + size
            if planned.kept is not None:
                done += row.place.shape[1]
                share = planned.kept * done // planned.tokens - given
                row = fewer_tokens(row, pixels, schedule, share, family.tower_layers)
                given += share
            rows.append(row)
        whole = Survivors.beside(rows)
        return replace(
            whole,
            segment=torch.cat([row.segment for row in rows]),
            counts=tuple(count for row in rows for count in row.counts),
            way=Way.beside([row.way for row in rows]) if self.trace else whole.way,
        )

    def through(self, segments: list[Segment], ranked: bool = False) -> Survivors:
        """Segments of as many tokens through tower and projector.

        Args:
            ranked: what leaves the tower is ranked by attention.
        """
        family, schedule, first = self.family, self.schedule, segments[0][0]
        tokens, whole = first.entering[segments[0][1]], first.tokens
        # segments of a medium are treated alike, those that have lost nothing too
        thinned_out = first.entered is not None
        plan = schedule.in_tower(
            tokens,
            family.tower_layers,
            frames=len(segments),
            whole=whole,
            ranked=ranked or (thinned_out and any(pixels.form.pools for pixels, _ in segments)),
        )
        step = max(1, family.chunk_bytes // (whole * family.bytes_per_token()))
        together = len(segments) if plan.frames else step
        parts = []
        for start in range(0, len(segments), together):
            own = segments[start : start + together]
            padding = _padding(own, schedule) if plan.reduces or thinned_out else None
            numbers = to_device([number for _, number in own], family.device)
            run = TowerPass(
                TowerTokens.all(len(own), whole, family.device, padding, numbers),
                plan=plan,
                group=family.patches_per_token,
                class_tokens=family.class_tokens,
                entering=None if tokens == whole else to_device(_entering(own), family.device),
                at_a_time=step,
                traced=bool(self.trace),
                watched=self.trace == "attention",
            )
            values = to_device(_pixel_values(own), family.device)
            survivors = Survivors.of(family.run_tower(first, values, run).to(family.device), run)
            parts.append(self.condensed(first, survivors))
        return Survivors.cat(parts)

    @property
    def adapts(self) -> bool:
        """Whether all of a medium have to be seen before it is known how many of a segment stay."""
        return self.schedule.input is not None and self.schedule.input.keep is None

    def condensed(self, pixels: Pixels, survivors: Survivors) -> Survivors:
        """What can be done to some segments without the others: no more is kept than the decoder takes."""
        stage = self.schedule.input
        if self.adapts:
            return survivors
        if stage is not None:
            planned = input_kept(survivors.left, stage.keep)
            survivors = self.thinned(survivors)
            survivors.verify(planned, "the reduction after the vision tower")
        return pixels.form.condense(survivors, self.schedule.layout)

    def finished(self, pixels: Pixels, survivors: Survivors) -> Survivors:
        """The same for what needs all of a medium's."""
        if not self.adapts:
            return survivors
        return pixels.form.condense(self.thinned(survivors), self.schedule.layout)

    def thinned(self, survivors: Survivors) -> Survivors:
        stage = self.schedule.input
        return thinned(survivors, stage.method, stage.keep, layer=self.family.tower_layers)

    def in_one_row(self, pixels: Pixels, pieces: list[tuple[list[int], Survivors]]) -> Survivors:
        cells = pixels.form.cells(pieces[0][1].left, self.schedule.layout)
        return in_one_row(pieces, cells, self.family.tower_layers)


def _by_length(wanted: Sequence[Segment]) -> list[list[Segment]]:
    """Segments of which as many tokens enter the tower."""
    lengths: dict[int, list[Segment]] = {}
    for pixels, number in wanted:
        lengths.setdefault(pixels.entering[number], []).append((pixels, number))
    return list(lengths.values())


def _entering(segments: Sequence[Segment]) -> Tensor:
    """(B, n) the tokens that enter, by place."""
    return torch.stack([pixels.entered[number].nonzero()[:, 0] for pixels, number in segments])


def _padding(segments: Sequence[Segment], schedule: Schedule) -> Tensor | None:
    """(B, N) image padding that leaves first; None where there is none."""
    media = {id(pixels): pixels for pixels, _ in segments}
    masks = {key: pixels.form.padding(schedule.layout) for key, pixels in media.items()}
    if all(mask is None for mask in masks.values()):
        return None
    nothing = torch.zeros(1, segments[0][0].tokens, dtype=torch.bool)
    own = [(masks[id(pixels)], number) for pixels, number in segments]
    return torch.cat([nothing if mask is None else mask[number, None] for mask, number in own])


def _pixel_values(segments: Sequence[Segment]) -> Tensor:
    """Of all of them, neighbours of one medium at once."""
    parts, start = [], 0
    for stop in range(1, len(segments) + 1):
        (pixels, number), following = segments[stop - 1], segments[stop : stop + 1]
        if not following or following[0][0] is not pixels or following[0][1] != number + 1:
            parts.append(pixels.pixel_values(segments[start][1], number + 1))
            start = stop
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def decoder_tokens(family: Family, pixels: Pixels, survivors: Survivors, schedule: Schedule) -> Features:
    """The survivors of one medium as decoder tokens."""
    form, unit = pixels.form, family.patches_per_token
    newline = family.newline(like=survivors.features)
    layout = form.lay_out(survivors, schedule.layout, newline, pixels.entered)
    planned = family.tokens(pixels, schedule)
    if planned is None:
        planned = form.expansion(survivors.counts, schedule.layout, pixels.entered)
    _verify(pixels, layout.newline, planned)
    candidates = form.candidates(planned, schedule.authors)
    kept = [schedule.after_tower(tokens, pixels.tokens) for tokens in pixels.entering if tokens]
    frames = len(survivors.segment)
    return Features(
        embeds=layout.embeds,
        kinds=torch.where(layout.newline, NEWLINE, VISUAL).to(torch.int8),
        rankable=~layout.newline if candidates == planned.visual else torch.ones_like(layout.newline),
        candidates=candidates,
        place=layout.place,
        length=layout.length,
        patches=unit * sum(pixels.entering),
        left_out=unit * (pixels.segments * pixels.tokens - sum(pixels.entering)),
        vision_kept=unit * (sum(kept) if frames == len(kept) else frames * kept[0]),
        visual=planned.visual,
        newlines=planned.newlines,
        frames=(pixels.segments, frames) if pixels.kind == "video" else (0, 0),
        form=form,
        times=pixels.times,
        shown=tuple(pixels.shown),
        document=pixels.document,
        injections=layout.taps,
        way=_entered(survivors.way, pixels) if survivors.traced else survivors.way,
        layout=layout.origin() if survivors.traced else None,
    )


def _entered(way: Way, pixels: Pixels) -> Way:
    """From all of a medium's tokens on."""
    if pixels.entered is None:
        return way
    chosen = pixels.entered.flatten().nonzero()[:, 0][None]
    return way.after((-1, ENTER), Merge.select(chosen, pixels.entered.numel()))


def _verify(pixels: Pixels, newline: Tensor, planned: Expansion) -> None:
    """What was laid out is what the schedule says; the host knows both lengths."""
    if len(newline) != planned.total:
        raise MergeError(
            f"{len(newline)} tokens of the {pixels.kind} are laid out for the LLM, where the schedule says "
            f"{planned.total}, {planned.newlines} of them newlines ({versions()})"
        )
