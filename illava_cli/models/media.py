"""A medium on its way to the decoder: its geometry, its pixels, and its features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from illava_cli.models.forms import Form
from illava_cli.models.host import to_device
from illava_cli.models.way import Way
from illava_cli.reduction import Merge


@dataclass(frozen=True)
class Geometry:
    """What is known of a medium from its size alone.

    Args:
        kind: `image` or `video`.
        form: the family's own, how it stands before the tower and is laid out after it.
        shape: segments of the same shape may share a pass through the tower.
    """

    kind: str
    form: Form
    shape: tuple

    @property
    def segments(self) -> int:
        """Tiles, frames or temporal groups that go through the tower."""
        return self.form.segments

    @property
    def tokens(self) -> int:
        """Tower tokens of a segment (patches, or groups of them)."""
        return self.form.tokens

    @property
    def entered(self) -> Tensor | None:
        """(segments, tokens) which of them the tower is shown; None: all."""
        return None

    @property
    def budget(self) -> int | None:
        """The most decoder tokens that a video may have."""
        return None

    @cached_property
    def entering(self) -> list[int]:
        """Tokens of each segment that enter the tower."""
        entered = self.entered
        return [self.tokens] * self.segments if entered is None else entered.sum(1).tolist()

    @cached_property
    def shown(self) -> list[int]:
        """The segments of which anything does."""
        return [segment for segment, tokens in enumerate(self.entering) if tokens]

    def filled(
        self, pixel_values: Callable[[int, int], Tensor], pictures: Callable[[int], Sequence[np.ndarray]]
    ) -> Pixels:
        """The medium itself."""
        return Pixels(self.kind, self.form, self.shape, pixel_values, pictures)


@dataclass(frozen=True)
class Pixels(Geometry):
    """A preprocessed medium: segments of equal shape, their pixels made when they are needed.

    Args:
        pixel_values: `(start, stop) -> Tensor`, float32 on the CPU.
        pictures: a segment as it was before it was normalised: T frames (H, W, 3) uint8, or a tile's three
            colours (H, W, 1).
        times: seconds of each sampled frame from the clip's start; none where they are not known.
        entered, budget: as of a geometry.
        document: an image of which nothing merges, as much of it is predicted by its neighbours.
    """

    pixel_values: Callable[[int, int], Tensor]
    pictures: Callable[[int], Sequence[np.ndarray]]
    times: tuple[float, ...] = ()
    entered: Tensor | None = None
    budget: int | None = None
    document: bool = False

    def timed(self, times: Sequence[float]) -> Pixels:
        """A video with the seconds of its frames, where they are known."""
        return replace(self, times=tuple(times)) if times else self


@dataclass(frozen=True)
class Features:
    """A medium as decoder tokens.

    Args:
        embeds: (T, C) image tokens and newlines in their order.
        kinds: (T,) `VISUAL` or `NEWLINE`.
        rankable: (T,) True for tokens that may merge in the decoder.
        candidates: how many of them there are.
        place: (T,) place of each token in the medium's unmerged sequence.
        length: unmerged length.
        form, times, document: as of its pixels.
        shown: its segments that stand in a prompt, where they stand apart.
        injections: (T, C) by decoder layer, what is added to what that gives.
        patches, left_out, vision_kept, visual, newlines: counts for the record.
        frames: segments that entered the tower, and that are left.
        way: through the tower, where it is traced.
        layout: what comes out there to these, where it is traced; a newline is a slot that no token enters.
    """

    embeds: Tensor
    kinds: Tensor
    rankable: Tensor
    candidates: int
    place: Tensor
    length: int
    patches: int
    left_out: int
    vision_kept: int
    visual: int
    newlines: int
    frames: tuple[int, int]
    form: Form | None = None
    times: tuple[float, ...] = ()
    shown: tuple[int, ...] = ()
    document: bool = False
    injections: dict[int, Tensor] = field(default_factory=dict)
    way: Way = field(default_factory=Way)
    layout: Merge | None = None

    @property
    def unmerged(self) -> int:
        """Decoder tokens that the unmodified model takes, newlines among them."""
        return self.form.expansion([self.form.tokens] * self.form.segments, "grid").total

    @property
    def runs(self) -> list[Run]:
        """How it stands in an unmerged prompt: as one run of tokens, or as runs with text between them."""
        if not self.form.apart:
            return [Run(self.form, self.length, self.times)]
        return [Run(self.form.part(), self.form.tokens, self.times)] * len(self.shown)

    def placed(self, begins: Sequence[int]) -> Tensor:
        """(T,) the place of each token in an unmerged prompt where its runs begin there."""
        if not self.form.apart:
            return self.place + begins[0]
        of_segment = torch.zeros(self.form.segments, dtype=torch.long)
        of_segment[list(self.shown)] = torch.tensor(begins)
        tokens = self.form.tokens
        return to_device(of_segment, self.place.device)[self.place // tokens] + self.place % tokens

    def untraced(self) -> Features:
        """Without what a trace has kept of their way."""
        return replace(self, way=Way(), layout=None)


@dataclass(frozen=True)
class Run:
    """Tokens of a medium with no text among them, unmerged."""

    form: Form
    length: int
    times: tuple[float, ...]


def as_bytes(values: Tensor, settings: Any) -> np.ndarray:
    """(3, H, W, 1) uint8, colour by colour, what a normalised tile (3, H, W) was made of.

    Args:
        settings: an image processor, with `image_mean` and `image_std`.
    """
    scale, shift = (
        np.array(x, dtype=np.float32)[:, None, None] * 255 for x in (settings.image_std, settings.image_mean)
    )
    levels = values.numpy() * scale
    levels += shift + 0.5  # which the cast rounds down
    return levels.astype(np.uint8)[..., None]


def normalised(values: Tensor, settings: dict, channel: int) -> Tensor:
    """uint8 `values` rescaled and normalised to float32 as a video processor's settings say.

    In the order of `transformers`' own arithmetic, so that each value is the same to its last bit.

    Args:
        channel: the dimension of the three colours.
    """
    pixels = values.to(torch.float32)
    scale = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
    if not settings.get("do_normalize", True):
        return pixels.mul_(scale)
    shape = [1] * values.dim()
    shape[channel] = 3
    mean, std = (torch.tensor(settings[k]).mul_(1 / scale) for k in ("image_mean", "image_std"))
    return pixels.sub_(mean.view(shape)).div_(std.view(shape))
