"""A medium between vLLM's processes: tensors, and a line of JSON that says how it stands."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from illava_cli.config.options import MediaOptions
from illava_cli.models.family import Family
from illava_cli.models.media import Pixels

FIELDS = ("values", "entered", "about", "advance", "tokens")  # by name, behind the kind of medium


@dataclass(frozen=True)
class About:
    """How a medium stands, from which its geometry is made again.

    Args:
        size: height and width before it was resized.
        frames: of a video; 1 of an image.
        alone: whether an image is taken as the only one of its turn.
        wish: `wish_of`.
    """

    kind: str
    size: tuple[int, int]
    frames: int
    alone: bool
    wish: str
    document: bool
    times: tuple[float, ...]

    def packed(self) -> Tensor:
        """As bytes."""
        return torch.frombuffer(bytearray(json.dumps(asdict(self)).encode()), dtype=torch.uint8)

    @staticmethod
    def unpacked(data: Tensor) -> About:
        fields = json.loads(bytes(data.cpu().numpy()))
        return About(**fields | {name: tuple(fields[name]) for name in ("size", "times")})


def as_fields(pixels: Pixels, about: About, advance: list[int], tokens: list[int]) -> dict[str, Tensor]:
    """What goes to the worker, by the names in `FIELDS`.

    Args:
        advance, tokens: positions that each of its runs takes up, and how many tokens it has.
    """
    values = torch.cat([pixels.pixel_values(n, n + 1) for n in pixels.shown])
    entered = torch.empty(0) if pixels.entered is None else pixels.entered
    return {
        "values": values,
        "entered": entered.to(torch.uint8),
        "about": about.packed(),
        "advance": torch.tensor(advance),
        "tokens": torch.tensor(tokens),
    }


def standing_as(family: Family, about: About, entered: Tensor, options: MediaOptions) -> Pixels:
    """The medium without its pixels."""
    geometry = family.geometry(about.kind, about.size, about.frames, options, about.alone)
    return replace(
        geometry.filled(None, None),
        times=about.times,
        entered=entered.cpu().bool() if len(entered) else None,
        budget=options.video_budget if about.kind == "video" else None,
        document=about.document,
    )


def as_pixels(family: Family, values: Tensor, about: About, entered: Tensor, options: MediaOptions) -> Pixels:
    """The medium as it was."""
    medium = standing_as(family, about, entered, options)
    rows = {segment: row for row, segment in enumerate(medium.shown)}
    each = len(values) // len(rows)

    def pixel_values(start: int, stop: int) -> Tensor:
        return values[rows[start] * each : (rows[stop - 1] + 1) * each]

    return replace(medium, pixel_values=pixel_values)
