"""Questions about a video: which way something moves, which colour came first, how often a shape blinks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from illava_cli.evals.world.scene import (
    COLOURS,
    EDGE,
    SHAPES,
    Background,
    Scene,
    Thing,
    draw_background,
    draw_thing,
    pick,
)
from illava_cli.evals.world.task import Clip, Question, Task

FRAMES = 8
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
MOST_BLINKS = 3
SIZES = ("medium", "large")


@dataclass(frozen=True)
class Path:
    """How a thing behaves: the way it moves, the frame in which it appears, the frames in which it hides."""

    direction: str | None = None
    appears: int = 0
    hidden: tuple[int, ...] = ()


def draw_clip(rng: np.random.Generator, kinds: tuple[str, ...], frames: int = FRAMES) -> Clip:
    """Things of different colours and shapes, one for each of `kinds`: still, moves, blinks, appears."""
    colours = rng.choice(list(COLOURS), len(kinds), replace=False)
    shapes = rng.choice(SHAPES, len(kinds), replace=False)
    background = draw_background(rng)
    late = _appearances(rng, kinds.count("appears"), frames)
    paths = tuple(_path(rng, kind, frames, late) for kind in kinds)
    while True:
        things = [
            draw_thing(rng, (str(c), str(s)), sizes=SIZES) for c, s in zip(colours, shapes, strict=True)
        ]
        tracks = [_track(rng, thing, path, frames) for thing, path in zip(things, paths, strict=True)]
        if not _collide(tracks):
            return Clip(tuple(_frame(background, tracks, paths, f) for f in range(frames)), paths)


def _appearances(rng: np.random.Generator, count: int, frames: int) -> list[int]:
    """Frames at which things appear, two or more apart, in random order."""
    start = int(rng.integers(0, 2))
    return list(rng.permutation([start + i * int(rng.integers(2, frames // 2)) for i in range(count)]))


def _path(rng: np.random.Generator, kind: str, frames: int, late: list[int]) -> Path:
    if kind == "moves":
        return Path(direction=pick(rng, tuple(DIRECTIONS)))
    if kind == "appears":
        return Path(appears=int(late.pop()))
    if kind == "blinks":
        # one frame dark at a time, and lit in the first frame and in the last
        count = int(rng.integers(1, min(MOST_BLINKS, (frames - 1) // 2) + 1))
        slots = np.sort(rng.choice(frames - 2 - (count - 1), count, replace=False))
        return Path(hidden=tuple(int(slot + 1 + i) for i, slot in enumerate(slots)))
    return Path()


def _track(rng: np.random.Generator, thing: Thing, path: Path, frames: int) -> list[Thing]:
    """The thing in each frame; one that moves crosses at least half of the picture."""
    if path.direction is None:
        return [thing] * frames
    dx, dy = DIRECTIONS[path.direction]
    low, high = thing.radius + 1, EDGE - thing.radius - 1
    start, stop = rng.uniform(low, low + (high - low) * 0.2), rng.uniform(high - (high - low) * 0.2, high)
    line = np.linspace(start, stop, frames)
    if dx + dy < 0:
        line = line[::-1]
    return [replace(thing, x=float(v)) if dx else replace(thing, y=float(v)) for v in line]


def _collide(tracks: list[list[Thing]]) -> bool:
    return any(
        np.hypot(a.x - b.x, a.y - b.y) < a.radius + b.radius
        for frame in zip(*tracks, strict=True)
        for i, a in enumerate(frame)
        for b in frame[:i]
    )


def _frame(background: Background, tracks: list[list[Thing]], paths: tuple[Path, ...], frame: int) -> Scene:
    shown = [
        track[frame]
        for track, path in zip(tracks, paths, strict=True)
        if frame >= path.appears and frame not in path.hidden
    ]
    return Scene(tuple(shown), background)


def _cast(stage: Clip) -> list[tuple[Thing, Path]]:
    """Each thing, as it is in the last frame (in which all are lit), with its path."""
    return list(zip(stage.frames[-1].things, stage.paths, strict=True))


def draw_moving(rng: np.random.Generator) -> Clip:
    return draw_clip(rng, ("moves", "still") if rng.integers(2) else ("moves",))


def draw_blinking(rng: np.random.Generator) -> Clip:
    return draw_clip(rng, ("blinks", "still") if rng.integers(2) else ("blinks",))


def draw_appearing(rng: np.random.Generator) -> Clip:
    return draw_clip(rng, ("appears", "appears"))


def ask_direction(stage: Clip, rng: np.random.Generator) -> Question | None:
    moving = [(thing, path) for thing, path in _cast(stage) if path.direction]
    if not moving:
        return None
    thing, path = pick(rng, moving)
    return f"Which way does the {thing.shape} move?", path.direction


def ask_first(stage: Clip, rng: np.random.Generator) -> Question | None:
    """Between the two things that appear: the colour of the earlier."""
    cast = _cast(stage)
    if len(cast) != 2 or cast[0][1].appears == cast[1][1].appears:
        return None
    first = min(cast, key=lambda member: member[1].appears)[0]
    return "Which colour came first?", first.colour


def ask_blinks(stage: Clip, rng: np.random.Generator) -> Question | None:
    blinking = [(thing, path) for thing, path in _cast(stage) if path.hidden]
    if not blinking:
        return None
    thing, path = pick(rng, blinking)
    return f"How many times does the {thing.shape} blink?", str(len(path.hidden))


TASKS = {
    "video-direction": Task(draw_moving, ask_direction, tuple(DIRECTIONS)),
    "video-first": Task(draw_appearing, ask_first, tuple(COLOURS)),
    "video-blinks": Task(draw_blinking, ask_blinks, tuple(str(n) for n in range(1, MOST_BLINKS + 1))),
}
