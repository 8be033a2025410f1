"""Media through tower, projector and layout, in passes of bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from illava_cli.config.stages import InputStage
from illava_cli.errors import MergeError
from illava_cli.models.family import Family
from illava_cli.models.forms import Expansion
from illava_cli.models.hf import versions
from illava_cli.models.host import to_device
from illava_cli.models.media import Features, Geometry, Pixels
from illava_cli.models.schedule import Schedule, input_kept
from illava_cli.models.survivors import Survivors, thinned
from illava_cli.models.tower import TowerPass, TowerTokens
from illava_cli.trace import NEWLINE, VISUAL, Tracing


@torch.inference_mode()
def encode(
    family: Family, media: Sequence[Pixels], schedules: Mapping[str, Schedule], *, trace: Tracing = False
) -> list[Features]:
    """Media through tower, projector and layout. Segments of one shape share passes.

    The passes are bounded in memory, so that a longer video does not need more of it.

    Args:
        schedules: by kind of medium.
        trace: keep the merges of each tower layer in `Features.merges`, and the layout.

    Raises:
        MergeError: a reduction did not happen as scheduled.
    """
    together: dict[tuple[tuple, Schedule], list[int]] = {}
    for index, pixels in enumerate(media):
        schedule = schedules[pixels.kind]
        # a pass is one schedule's as far as the tower and what comes right after it
        key = (pixels.shape, replace(schedule, decoder=(), scope="medium"))
        together.setdefault(key, []).append(index)
    features: dict[int, Features] = {}
    for (_, schedule), indices in together.items():
        group = [media[i] for i in indices]
        survivors = _run_group(family, group, schedule, trace)
        start = 0
        for index, pixels in zip(indices, group, strict=True):
            own = survivors.rows(slice(start, start + pixels.segments))
            features[index] = _decoder_tokens(family, pixels, own, schedule)
            start += pixels.segments
    return [features[i] for i in range(len(media))]


def _run_group(family: Family, group: list[Pixels], schedule: Schedule, trace: Tracing) -> Survivors:
    first, entry = group[0], schedule.input
    tower = schedule.in_tower(first.tokens, family.tower_layers)
    padding = _padding(group, schedule) if tower.reduces else None
    step = max(1, family.chunk_bytes // (first.tokens * family.bytes_per_token()))
    total = sum(p.segments for p in group)
    parts = []
    for start in range(0, total, step):
        stop = min(start + step, total)
        pixel_values = to_device(_pixel_slice(group, start, stop), family.device)
        outside = None if padding is None else to_device(padding[start:stop], family.device)
        run = TowerPass(
            TowerTokens.all(stop - start, first.tokens, family.device, outside),
            plan=tower,
            group=family.patches_per_token,
            class_tokens=family.class_tokens,
            traced=bool(trace),
            watched=trace == "attention",
        )
        survivors = Survivors.of(family.run_tower(first, pixel_values, run).to(family.device), run)
        if entry is not None and entry.keep is not None:
            planned = input_kept(survivors.left, entry.keep)
            survivors = _thinned(family, survivors, entry)
            survivors.verify(planned, "the reduction after the vision tower")
        adapts = entry is not None and entry.keep is None
        parts.append(survivors if adapts else condense(first, survivors, schedule))
    return Survivors.cat(parts)


def _padding(group: list[Pixels], schedule: Schedule) -> Tensor | None:
    """(segments, tokens) of all media; None where none has any."""
    masks = [pixels.form.padding(schedule.layout) for pixels in group]
    if all(mask is None for mask in masks):
        return None
    nothing = torch.zeros(1, group[0].tokens, dtype=torch.bool)
    pairs = zip(group, masks, strict=True)
    return torch.cat([nothing.expand(p.segments, -1) if mask is None else mask for p, mask in pairs])


def _thinned(family: Family, survivors: Survivors, stage: InputStage) -> Survivors:
    return thinned(survivors, stage.method, stage.keep, layer=family.tower_layers)


def condense(geometry: Geometry, survivors: Survivors, schedule: Schedule) -> Survivors:
    """What a medium's form does to each segment alone."""
    return geometry.form.condense(survivors, schedule.layout)


def _decoder_tokens(family: Family, pixels: Pixels, survivors: Survivors, schedule: Schedule) -> Features:
    """The survivors of one medium after the reduction between tower and decoder, if there is one."""
    entry = schedule.input
    if entry is not None and entry.keep is None:
        # as many in each segment: all of a medium have to be seen
        survivors = condense(pixels, _thinned(family, survivors, entry), schedule)
    features = lay_out(family, pixels, survivors, schedule)
    _verify(family, pixels, features, schedule)
    return features


def lay_out(family: Family, pixels: Pixels, survivors: Survivors, schedule: Schedule) -> Features:
    """The survivors of one medium as decoder tokens."""
    form, patches = pixels.form, pixels.segments * family.patches_per_token
    layout = form.lay_out(survivors, schedule.layout, family.newline(like=survivors.features))
    newline = layout.newline
    expansion = form.expansion(survivors.left, schedule.layout)
    candidates = form.candidates(expansion, schedule.authors)
    return Features(
        embeds=layout.embeds,
        kinds=torch.where(newline, NEWLINE, VISUAL).to(torch.int8),
        rankable=~newline if candidates == expansion.visual else torch.ones_like(newline),
        candidates=candidates,
        place=layout.place,
        length=layout.length,
        patches=patches * pixels.tokens,
        vision_kept=patches * schedule.after_tower(pixels.tokens),
        visual=expansion.visual,
        newlines=expansion.newlines,
        form=form,
        times=pixels.times,
        injections=layout.taps,
        merges=survivors.merges,
        attention=survivors.attention,
        layout=layout.origin() if survivors.traced else None,
    )


def _verify(family: Family, pixels: Pixels, features: Features, schedule: Schedule) -> None:
    """What was laid out is what the schedule says; the host knows both."""
    planned = family.tokens(pixels, schedule)
    laid_out = Expansion(features.visual, features.newlines)
    if len(features.embeds) != laid_out.total or planned not in (None, laid_out):
        said = planned or laid_out
        raise MergeError(
            f"{len(features.embeds)} tokens of the {pixels.kind} are laid out for the LLM, "
            f"{laid_out.newlines} of them newlines, where the schedule says {said.total} and "
            f"{said.newlines} ({versions()})"
        )


def _pixel_slice(group: list[Pixels], start: int, stop: int) -> Tensor:
    """Segments `start` to `stop` of several media, counted through."""
    parts, offset = [], 0
    for pixels in group:
        lo, hi = max(start - offset, 0), min(stop - offset, pixels.segments)
        if lo < hi:
            parts.append(pixels.pixel_values(lo, hi))
        offset += pixels.segments
    return torch.cat(parts) if len(parts) > 1 else parts[0]
