"""What a picture of the world holds, before it is drawn: shapes, perhaps signs, and a background.

Lengths are in the scene's own pixels: `EDGE` of them make one tile of the model `tiny`. A scene is drawn at
any resolution (`render.draw`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

EDGE = 96
COLOURS = {
    "red": (216, 36, 36),
    "green": (40, 160, 56),
    "blue": (40, 76, 220),
    "yellow": (246, 222, 44),
    "purple": (150, 40, 176),
    "orange": (248, 138, 16),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
SIZES = {"small": 8.5, "medium": 11.5, "large": 15.0}
WORDS = (
    *("CAT", "DOG", "SUN", "BUS", "CAR", "HAT", "MAP", "PEN", "CUP", "BOX"),
    *("FISH", "BIRD", "TREE", "MILK", "BOOK", "SHIP", "MOON", "LAMP", "FROG", "DOOR"),
)
TEXTURES = ("plain", "gradient", "stripes", "checks", "clouds")
JITTER = 14  # levels by which a shape's colour differs from its name's
GAP = 2.0  # between shapes
MARGIN = 8.0  # from an axis of the picture, of a shape whose place is asked about
ROWS, COLUMNS = ("top", "bottom"), ("left", "right")


@dataclass(frozen=True)
class Thing:
    """A shape with its centre and radius; `paint` is its colour as drawn, RGB."""

    colour: str
    shape: str
    size: str
    x: float
    y: float
    radius: float
    paint: tuple[int, int, int]

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Sign:
    """A small plate with text: its left upper corner, and the edge of one dot of the 5x7 letters."""

    text: str
    x: float
    y: float
    dot: float
    dark: bool

    @property
    def width(self) -> float:
        return (6 * len(self.text) + 3) * self.dot

    @property
    def height(self) -> float:
        return 11 * self.dot


@dataclass(frozen=True)
class Background:
    """A muted texture; `seed` draws its noise. The two colours are RGB."""

    texture: str
    first: tuple[int, int, int]
    second: tuple[int, int, int]
    seed: int


@dataclass(frozen=True)
class Scene:
    """One picture of `width` x `height` scene pixels; `style` names the hand that draws it
    (`render.PAINTERS`).
    """

    things: tuple[Thing, ...]
    background: Background
    signs: tuple[Sign, ...] = ()
    width: int = EDGE
    height: int = EDGE
    style: str = "flat"

    def quadrant(self, thing: Thing) -> tuple[str, str] | None:
        """Its row and column name, or None within `MARGIN` of an axis."""
        dx, dy = thing.x - self.width / 2, thing.y - self.height / 2
        if abs(dx) < MARGIN * self.width / EDGE or abs(dy) < MARGIN * self.height / EDGE:
            return None
        return ROWS[dy > 0], COLUMNS[dx > 0]

    def reaches(self, thing: Thing, row: str, column: str) -> bool:
        """Whether its centre lies in that quadrant or within `MARGIN` of it."""
        right = thing.x - self.width / 2 if column == "right" else self.width / 2 - thing.x
        down = thing.y - self.height / 2 if row == "bottom" else self.height / 2 - thing.y
        return right > -MARGIN * self.width / EDGE and down > -MARGIN * self.height / EDGE


def pick(rng: np.random.Generator, options):
    """One of the options, each as likely."""
    return options[int(rng.integers(len(options)))]


def draw_background(rng: np.random.Generator) -> Background:
    level = rng.uniform(40, 215)
    first = np.clip(level + rng.uniform(-14, 14, 3), 0, 255)
    second = np.clip(first + rng.choice([-1, 1]) * rng.uniform(8, 30) + rng.uniform(-8, 8, 3), 0, 255)
    return Background(
        pick(rng, TEXTURES),
        tuple(int(v) for v in first),
        tuple(int(v) for v in second),
        int(rng.integers(2**31)),
    )


def draw_thing(
    rng: np.random.Generator,
    name: tuple[str, str],
    edges: tuple[float, float] = (EDGE, EDGE),
    sizes: tuple[str, ...] = tuple(SIZES),
    scale: float = 1.0,
) -> Thing:
    """A shape named (colour, shape), wholly inside the picture of `edges` (width, height)."""
    size = pick(rng, sizes)
    radius = SIZES[size] * scale * rng.uniform(0.92, 1.08)
    x, y = (rng.uniform(radius + 1, edge - radius - 1) for edge in edges)
    paint = tuple(
        int(v) for v in np.clip(np.array(COLOURS[name[0]]) + rng.uniform(-JITTER, JITTER, 3), 0, 255)
    )
    return Thing(*name, size, float(x), float(y), float(radius), paint)


def draw_sign(
    rng: np.random.Generator, text: str, edges: tuple[float, float] = (EDGE, EDGE), lettering: float = 1.0
) -> Sign:
    """A sign somewhere inside the picture of `edges` (width, height)."""
    sign = Sign(text, 0.0, 0.0, float(rng.uniform(1.2, 1.45)) * lettering, bool(rng.integers(2)))
    x, y = rng.uniform(1, edges[0] - sign.width - 1), rng.uniform(1, edges[1] - sign.height - 1)
    return replace(sign, x=float(x), y=float(y))


def draw_text(rng: np.random.Generator) -> str:
    """A word or a number of two digits, as likely."""
    return pick(rng, WORDS) if rng.integers(2) else str(rng.integers(10, 100))


def other_names(rng: np.random.Generator, count: int, taken: tuple[tuple[str, str], ...] = ()) -> list:
    """`count` different (colour, shape) pairs that are not among `taken`."""
    names = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in taken]
    return [names[i] for i in rng.choice(len(names), count, replace=False)]


def draw_scene(
    rng: np.random.Generator,
    count: int,
    *,
    texts: tuple[str, ...] = (),
    edges: tuple[int, int] = (EDGE, EDGE),
    scale: float = 1.0,
    lettering: float = 1.0,
    names: list[tuple[str, str]] | None = None,
) -> Scene:
    """`count` shapes of different names, and a sign for each of `texts`; nothing overlaps.

    Args:
        scale: factor of the shapes' radii.
        lettering: factor of the letters' size.
        names: (colour, shape) of the shapes; drawn where not given.
    """
    names = other_names(rng, count) if names is None else names
    while True:
        signs = _placed(texts, lambda text: draw_sign(rng, text, edges, lettering), _overlap)
        things = _placed(
            names, lambda name: draw_thing(rng, name, edges, scale=scale), _touch, _covers, signs
        )
        if len(signs) == len(texts) and len(things) == len(names):
            return Scene(tuple(things), draw_background(rng), tuple(signs), *edges)


def _placed(wanted, attempt, clash, hinders=None, obstacles=()) -> list:
    """One item for each wanted, none in another's way; fewer where 30 attempts do not find a place.

    Args:
        attempt: what is wanted to an item somewhere.
        clash: whether two items are in each other's way.
        hinders, obstacles: whether an item is in the way of one of these.
    """
    items: list = []
    for what in wanted:
        for _ in range(30):
            item = attempt(what)
            blocked = any(hinders(item, other) for other in obstacles)
            if not blocked and not any(clash(item, other) for other in items):
                items.append(item)
                break
    return items


def _touch(a: Thing, b: Thing) -> bool:
    return np.hypot(a.x - b.x, a.y - b.y) < a.radius + b.radius + GAP


def _overlap(a: Sign, b: Sign) -> bool:
    beside = max(a.x, b.x) > min(a.x + a.width, b.x + b.width) + GAP
    return not (beside or max(a.y, b.y) > min(a.y + a.height, b.y + b.height) + GAP)


def _covers(thing: Thing, sign: Sign) -> bool:
    dx = max(sign.x - thing.x, thing.x - sign.x - sign.width, 0)
    dy = max(sign.y - thing.y, thing.y - sign.y - sign.height, 0)
    return np.hypot(dx, dy) < thing.radius + GAP
