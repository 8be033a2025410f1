"""Questions about a video: which way something moves, which colour came first, how often a shape blinks."""

from __future__ import annotations

from collections.abc import Callable
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
    """How a thing behaves: the way it moves, the moment of its appearance, the moments in which it hides."""

    direction: str | None = None
    appears: int = 0
    hidden: tuple[int, ...] = ()


def draw_clip(
    rng: np.random.Generator,
    kinds: tuple[str, ...],
    moments: int = FRAMES,
    times: np.ndarray | None = None,
) -> Clip:
    """Things of different colours and shapes, one for each of `kinds`: still, moves, blinks, appears.

    Args:
        moments: what appears or blinks does so at the beginning of one.
        times: (T,) of the frames, in moments and in order, one in each at least; as a default each moment's
            beginning.
    """
    times = np.arange(moments) if times is None else times
    colours = rng.choice(list(COLOURS), len(kinds), replace=False)
    shapes = rng.choice(SHAPES, len(kinds), replace=False)
    background = draw_background(rng)
    late = _appearances(rng, kinds.count("appears"), moments)
    paths = tuple(_path(rng, kind, moments, late) for kind in kinds)
    while True:
        things = [
            draw_thing(rng, (str(c), str(s)), sizes=SIZES) for c, s in zip(colours, shapes, strict=True)
        ]
        tracks = [_track(rng, thing, path, moments, times) for thing, path in zip(things, paths, strict=True)]
        if not _collide(tracks):
            shown = (_frame(background, tracks, paths, f, int(t)) for f, t in enumerate(times))
            return Clip(tuple(shown), paths)


def draw_times(rng: np.random.Generator, moments: int, frames: int) -> np.ndarray:
    """(frames,) times that are not even: one in each moment at least, the first at the very beginning."""
    more = rng.integers(0, moments, frames - moments)
    times = np.sort(np.concatenate([np.arange(moments), more]) + rng.random(frames))
    times[0] = 0.0
    return times


def _appearances(rng: np.random.Generator, count: int, moments: int) -> list[int]:
    """Moments at which things appear, two or more apart, in random order."""
    start = int(rng.integers(0, 2))
    return list(rng.permutation([start + i * int(rng.integers(2, moments // 2)) for i in range(count)]))


def _path(rng: np.random.Generator, kind: str, moments: int, late: list[int]) -> Path:
    if kind == "moves":
        return Path(direction=pick(rng, tuple(DIRECTIONS)))
    if kind == "appears":
        return Path(appears=int(late.pop()))
    if kind == "blinks":
        # one moment dark at a time, and lit in the first and in the last
        count = int(rng.integers(1, min(MOST_BLINKS, (moments - 1) // 2) + 1))
        slots = np.sort(rng.choice(moments - 2 - (count - 1), count, replace=False))
        return Path(hidden=tuple(int(slot + 1 + i) for i, slot in enumerate(slots)))
    return Path()


def _track(
    rng: np.random.Generator, thing: Thing, path: Path, moments: int, times: np.ndarray
) -> list[Thing]:
    """The thing in each frame; one that moves crosses at least half of the picture."""
    if path.direction is None:
        return [thing] * len(times)
    dx, dy = DIRECTIONS[path.direction]
    low, high = thing.radius + 1, EDGE - thing.radius - 1
    start, stop = rng.uniform(low, low + (high - low) * 0.2), rng.uniform(high - (high - low) * 0.2, high)
    line = np.interp(times, np.arange(moments), np.linspace(start, stop, moments))
    if dx + dy < 0:
        line = start + stop - line
    return [replace(thing, x=float(v)) if dx else replace(thing, y=float(v)) for v in line]


def _collide(tracks: list[list[Thing]]) -> bool:
    return any(
        np.hypot(a.x - b.x, a.y - b.y) < a.radius + b.radius
        for frame in zip(*tracks, strict=True)
        for i, a in enumerate(frame)
        for b in frame[:i]
    )


def _frame(
    background: Background, tracks: list[list[Thing]], paths: tuple[Path, ...], frame: int, moment: int
) -> Scene:
    shown = [
        track[frame]
        for track, path in zip(tracks, paths, strict=True)
        if moment >= path.appears and moment not in path.hidden
    ]
    return Scene(tuple(shown), background)


def _cast(stage: Clip) -> list[tuple[Thing, Path]]:
    """Each thing, as it is in the last frame (in which all are lit), with its path."""
    return list(zip(stage.frames[-1].things, stage.paths, strict=True))


def moving(rng: np.random.Generator) -> tuple[str, ...]:
    return ("moves", "still") if rng.integers(2) else ("moves",)


def blinking(rng: np.random.Generator) -> tuple[str, ...]:
    return ("blinks", "still") if rng.integers(2) else ("blinks",)


def appearing(rng: np.random.Generator) -> tuple[str, ...]:
    return ("appears", "appears")


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


def _tasks(group: str, frames: int) -> dict[str, Task]:
    """The tasks about clips of so many frames; at uneven times, where these are more than the moments."""

    def drawn(
        kinds: Callable[[np.random.Generator], tuple[str, ...]],
    ) -> Callable[[np.random.Generator], Clip]:
        def draw(rng: np.random.Generator) -> Clip:
            times = None if frames == FRAMES else draw_times(rng, FRAMES, frames)
            return draw_clip(rng, kinds(rng), times=times)

        return draw

    return {
        f"{group}-direction": Task(drawn(moving), ask_direction, tuple(DIRECTIONS)),
        f"{group}-first": Task(drawn(appearing), ask_first, tuple(COLOURS)),
        f"{group}-blinks": Task(drawn(blinking), ask_blinks, tuple(map(str, range(1, MOST_BLINKS + 1)))),
    }


LONG_FRAMES = 2 * FRAMES
TASKS = _tasks("video", FRAMES)
LONG_TASKS = _tasks("long", LONG_FRAMES)
