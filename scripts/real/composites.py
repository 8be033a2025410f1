"""Cut-outs placed on photographs, and questions about them whose answers are known.

A fifth of the cut-outs and a quarter of the photographs are held out whole: no picture that is learnt from
shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from real.pictures import KINDS, Stamp, paste

MOST = 4
SIZES = (0.24, 0.5)  # of the picture's edge, the longer side
MARGIN = 0.08  # from an axis, of what is asked for by its place
LARGER = 1.6  # times the area, of what is called larger
ROWS, COLUMNS = ("top", "bottom"), ("left", "right")


@dataclass(frozen=True)
class Placed:
    """A cut-out in a picture: its number, kind, centre and longer side (shares of the edge), and its area."""

    stamp: int
    kind: str
    x: float
    y: float
    size: float
    area: float

    @property
    def quadrant(self) -> str | None:
        """`top left`; None near an axis."""
        if min(abs(self.x - 0.5), abs(self.y - 0.5)) < MARGIN:
            return None
        return f"{ROWS[self.y > 0.5]} {COLUMNS[self.x > 0.5]}"


@dataclass(frozen=True)
class Picture:
    """Cut-outs of different kinds on the photograph of that number."""

    placed: tuple[Placed, ...]
    ground: int

    def draw(self, stamps: Sequence[Stamp], photographs: Sequence[Image.Image]) -> Image.Image:
        """As an RGB square."""
        canvas = photographs[self.ground].copy()
        for one in self.placed:
            paste(canvas, stamps[one.stamp], one.size, (one.x, one.y))
        return canvas


@dataclass(frozen=True)
class Half:
    """What pictures are made of: numbers of cut-outs, by kind, and of photographs."""

    stamps: dict[str, list[int]]
    grounds: list[int]


def halves(stamps: Sequence[Stamp], photographs: int) -> tuple[Half, Half]:
    """To learn from, and held out."""
    found = ({}, {})
    for kind in KINDS:
        own = [number for number, stamp in enumerate(stamps) if stamp.kind == kind]
        for held_out, half in enumerate(found):
            half[kind] = [number for i, number in enumerate(own) if (i % 5 == 4) == bool(held_out)]
    grounds = [[n for n in range(photographs) if (n % 4 == 3) == held_out] for held_out in (False, True)]
    return Half(found[0], grounds[0]), Half(found[1], grounds[1])


def compose(rng: np.random.Generator, half: Half, stamps: Sequence[Stamp]) -> Picture:
    """One to four cut-outs of different kinds that do not overlap much."""
    count = int(rng.integers(1, MOST + 1))
    while True:
        placed: list[Placed] = []
        for kind in rng.choice(list(KINDS), count, replace=False):
            one = _place(rng, str(kind), half, stamps)
            if any(_overlap(one, other) for other in placed):
                break
            placed.append(one)
        if len(placed) == count:
            return Picture(tuple(placed), half.grounds[int(rng.integers(len(half.grounds)))])


def _place(rng: np.random.Generator, kind: str, half: Half, stamps: Sequence[Stamp]) -> Placed:
    own = half.stamps[kind]
    number = own[int(rng.integers(len(own)))]
    size = float(rng.uniform(*SIZES))
    width, height = stamps[number].image.size
    longer = max(width, height)
    across, down = size * width / longer, size * height / longer
    x, y = (float(rng.uniform(edge / 2, 1 - edge / 2)) for edge in (across, down))
    return Placed(number, kind, x, y, size, stamps[number].opaque * across * down)


def _overlap(a: Placed, b: Placed) -> bool:
    return float(np.hypot(a.x - b.x, a.y - b.y)) < 0.45 * (a.size + b.size)


# --- questions --------------------------------------------------------------------------------------

Question = tuple[str, str]  # prompt and right answer


def ask_what(picture: Picture, rng: np.random.Generator) -> Question | None:
    if len(picture.placed) != 1:
        return None
    return "What is this?", picture.placed[0].kind


def ask_where(picture: Picture, rng: np.random.Generator) -> Question | None:
    one = picture.placed[int(rng.integers(len(picture.placed)))]
    return (f"Where is the {one.kind}?", one.quadrant) if one.quadrant else None


def ask_at(picture: Picture, rng: np.random.Generator) -> Question | None:
    one = picture.placed[int(rng.integers(len(picture.placed)))]
    there = [other for other in picture.placed if _reaches(other, one)]
    return (f"What is in the {one.quadrant}?", one.kind) if one.quadrant and len(there) == 1 else None


def _reaches(other: Placed, one: Placed) -> bool:
    """Whether it lies in the same quadrant, or near its edge."""
    across = (other.x - 0.5) * np.sign(one.x - 0.5)
    down = (other.y - 0.5) * np.sign(one.y - 0.5)
    return across > -MARGIN and down > -MARGIN


def ask_count(picture: Picture, rng: np.random.Generator) -> Question | None:
    return "How many things were put here?", str(len(picture.placed))


def ask_larger(picture: Picture, rng: np.random.Generator) -> Question | None:
    if len(picture.placed) < 2:
        return None
    a, b = (picture.placed[i] for i in rng.choice(len(picture.placed), 2, replace=False))
    if max(a.area, b.area) < LARGER * min(a.area, b.area):
        return None
    return f"Which is larger, the {a.kind} or the {b.kind}?", max(a, b, key=lambda one: one.area).kind


def ask_existence(picture: Picture, rng: np.random.Generator) -> Question | None:
    there = [one.kind for one in picture.placed]
    wanted = there if rng.integers(2) else [kind for kind in KINDS if kind not in there]
    kind = wanted[int(rng.integers(len(wanted)))]
    return f"Is there {'an' if kind[0] in 'aeiou' else 'a'} {kind}?", "yes" if kind in there else "no"


PLACES = tuple(f"{row} {column}" for row in ROWS for column in COLUMNS)
TASKS: dict[str, tuple[Callable[..., Question | None], tuple[str, ...]]] = {
    "what": (ask_what, tuple(KINDS)),
    "where": (ask_where, PLACES),
    "at": (ask_at, tuple(KINDS)),
    "count": (ask_count, tuple(str(n + 1) for n in range(MOST))),
    "larger": (ask_larger, tuple(KINDS)),
    "existence": (ask_existence, ("yes", "no")),
}


def patch_labels(picture: Picture, side: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of side x side patches the number of the kind under it from 1 on (0: none), (side * side,),
    and the centre of that cut-out (side * side, 2), NaN where there is none. A cut-out is taken as a disc.
    """
    centres = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(centres, centres)
    kinds, places = np.zeros((side, side), dtype=np.int64), np.full((side, side, 2), np.nan, dtype=np.float32)
    for one in picture.placed:
        under = np.hypot(x - one.x, y - one.y) < 0.4 * one.size
        kinds[under], places[under] = 1 + list(KINDS).index(one.kind), (one.x, one.y)
    return kinds.ravel(), places.reshape(-1, 2)
