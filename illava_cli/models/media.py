"""A medium on its way to the decoder: its geometry, its pixels, and its features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from illava_cli.models.forms import Form
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

    def filled(self, pixel_values: Callable[[int, int], Tensor]) -> Pixels:
        """The medium itself."""
        return Pixels(self.kind, self.form, self.shape, pixel_values)


@dataclass(frozen=True)
class Pixels(Geometry):
    """A preprocessed medium: segments of equal shape, their pixels made when they are needed.

    Args:
        pixel_values: `(start, stop) -> Tensor`, float32 on the CPU.
        times: seconds of each sampled frame from the clip's start; none where they are not known.
    """

    pixel_values: Callable[[int, int], Tensor]
    times: tuple[float, ...] = ()

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
        form, times: as of its pixels.
        injections: (T, C) by decoder layer, what is added to what that gives.
        patches, vision_kept, visual, newlines: counts for the record.
        merges, attention: of each tower layer, where they are traced.
        layout: the tokens of all segments, one segment after another, to these, where it is traced;
            a newline is a slot that no token enters.
    """

    embeds: Tensor
    kinds: Tensor
    rankable: Tensor
    candidates: int
    place: Tensor
    length: int
    patches: int
    vision_kept: int
    visual: int
    newlines: int
    form: Form | None = None
    times: tuple[float, ...] = ()
    injections: dict[int, Tensor] = field(default_factory=dict)
    merges: dict[int, Merge] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)
    layout: Merge | None = None

    @property
    def unmerged(self) -> int:
        """Decoder tokens that the unmodified model takes, newlines among them."""
        return self.form.expansion(self.form.tokens, "grid").total

    def part(self, index: int) -> Features:
        """One of `form.parts`; what is counted for the record stays with the whole.

        Parts hold as many tokens each, as every segment keeps as many.
        """
        parts = self.form.parts
        if parts == 1:
            return self
        tokens, length = len(self.embeds) // parts, self.length // parts
        cut = slice(index * tokens, (index + 1) * tokens)
        return replace(
            self,
            embeds=self.embeds[cut],
            kinds=self.kinds[cut],
            rankable=self.rankable[cut],
            candidates=self.candidates // parts,
            place=self.place[cut] - index * length,
            length=length,
            injections={layer: x[cut] for layer, x in self.injections.items()},
            form=self.form.part(index),
        )

    def untraced(self) -> Features:
        """Without what a trace has kept of their way."""
        return replace(self, merges={}, attention={}, layout=None)


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
