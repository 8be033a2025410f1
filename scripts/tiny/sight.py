"""Where each visual token lies: in which medium or frame, and at which place of the picture.

Told by the family's own layout: instead of features, the places of the patches go through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from shown import WHOLE, Media
from torch import Tensor

from illava_cli.engine.request import Slot
from illava_cli.models.encoder import Encoding, decoder_tokens
from illava_cli.models.family import Family
from illava_cli.models.forms import Form
from illava_cli.models.media import Pixels
from illava_cli.trace import View
from tiny.referents import Place, Referent

NEAR = 1.0  # tokens on each side of a place that show it


@dataclass(frozen=True)
class Sight:
    """The first T tokens of a row, up to the end of its media.

    Args:
        part: (T,) which image or which step of a video each belongs to; -1 for text and for newlines.
        places: (T, 2) of their middles, across and down as shares of the picture; NaN for text and newlines,
            and where a segment shows all of a picture of which others show more.
        step: width and height of a token, as shares.
        kind: "image" or "frame" where there are several.
        frames: of a step.
    """

    part: Tensor
    places: Tensor
    step: tuple[float, float]
    kind: str | None = None
    frames: int = 1

    def near(self, place: Place, part: int = 0) -> Tensor:
        """(T,) which tokens show a place."""
        reach = NEAR * torch.tensor(self.step)
        return ((self.places - torch.tensor(place)).abs() <= reach).all(-1) & (self.part == part)

    def shows(self, one: Referent) -> Tensor:
        """(T,) which tokens show what a name stands for; none where its place is unknown."""
        none = torch.zeros_like(self.part, dtype=torch.bool)
        if one.first is None or one.last is None:
            return none
        if self.kind == "frame":
            if one.seen is None:
                return none
            frames = [number for number, seen in enumerate(one.seen) if seen]
            return self.near(one.first, frames[0] // self.frames) | self.near(
                one.last, frames[-1] // self.frames
            )
        return self.near(one.first, one.image or 0)


class Sights:
    """Of a family's media; forms are looked at once."""

    def __init__(self, family: Family):
        self.family = family
        self._known: dict[str, Tensor] = {}

    def of(self, media: Media, where: Mapping[Slot, Tensor]) -> Sight:
        """Of a turn's media, whose tokens stand at these places of a row."""
        length = 1 + max(int(places.max()) for places in where.values())
        part, places = torch.full((length,), -1), torch.full((length, 2), float("nan"))
        for number, (slot, at) in enumerate(where.items()):
            told = self._places(media[slot])
            seen = ~told[:, 0].isnan()
            places[at] = told[:, :2]
            part[at[seen]] = told[seen, 2].long() if slot.kind == "video" else number
        (first, *_), views = media.items(), next(iter(media.values())).form.views()
        kind = "frame" if first[0].kind == "video" else "image" if len(media) > 1 else None
        frames = views[1].frame - views[0].frame if kind == "frame" and len(views) > 1 else 1
        return Sight(part, places, _step(self._places(first[1])), kind, frames)

    def _places(self, pixels: Pixels) -> Tensor:
        """(T, 3) across, down and segment of each of a medium's tokens; NaN where there is none."""
        key = repr(pixels.form)
        if key not in self._known:
            mapped = _Mapped(self.family, pixels.form)
            (survivors,) = Encoding(mapped, WHOLE, False).apart([pixels])
            told = decoder_tokens(mapped, pixels, survivors, WHOLE).embeds
            told[told[:, 0].isnan()] = float("nan")
            self._known[key] = told
        return self._known[key]


class _Mapped:
    """A family whose tower gives of each token where it lies."""

    def __init__(self, family: Family, form: Form):
        self._family, self._views = family, form.views()
        self._small = len(self._views) > 2 and self._views[0].tile is None and self._views[0].frame is None

    def __getattr__(self, name: str):
        return getattr(self._family, name)

    def run_tower(self, pixels, pixel_values, run) -> Tensor:
        return torch.stack([self._of(number) for number in run.tokens.segment.tolist()])

    def newline(self, like: Tensor) -> Tensor | None:
        return None if self._family.newline(like) is None else like.new_full((3,), float("nan"))

    def _of(self, number: int) -> Tensor:
        whole = middles(self._views[number]).flatten(0, 1)
        if number == 0 and self._small:
            whole = torch.full_like(whole, float("nan"))
        return torch.cat([whole, torch.full((len(whole), 1), float(number))], dim=1)


def middles(view: View) -> Tensor:
    """(rows, columns, 2) across and down of a segment's tokens, as shares of the picture."""
    left, top, width, height = view.extent
    down = top + height * view.covered * (torch.arange(view.rows) + 0.5) / view.rows
    across = left + width * view.covered * (torch.arange(view.columns) + 0.5) / view.columns
    return torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)


def _step(places: Tensor) -> tuple[float, float]:
    """The distance from one token to the next."""
    across, down = (places[:, axis][~places[:, axis].isnan()].unique() for axis in (0, 1))
    return tuple(float((x[1:] - x[:-1]).max()) for x in (across, down))
