"""Questions about the shapes of one image, from their colour to how they lie to each other."""

from __future__ import annotations

from collections import Counter

import numpy as np

from illava_cli.evals.world.scene import COLOURS, COLUMNS, EDGE, ROWS, SHAPES, draw_scene, pick
from illava_cli.evals.world.task import YES_NO, Question, Still, Task

APART = 14.0  # scene pixels by which two shapes must differ along the axis of a relation
MOST = 5


def draw_still(rng: np.random.Generator, fewest: int = 1, most: int = MOST) -> Still:
    return Still(draw_scene(rng, int(rng.integers(fewest, most + 1))))


def ask_colour(stage: Still, rng: np.random.Generator) -> Question | None:
    shapes = Counter(thing.shape for thing in stage.scene.things)
    alone = [thing for thing in stage.scene.things if shapes[thing.shape] == 1]
    if not alone:
        return None
    thing = pick(rng, alone)
    return f"What colour is the {thing.shape}?", thing.colour


def ask_shape(stage: Still, rng: np.random.Generator) -> Question | None:
    colours = Counter(thing.colour for thing in stage.scene.things)
    alone = [thing for thing in stage.scene.things if colours[thing.colour] == 1]
    if not alone:
        return None
    thing = pick(rng, alone)
    return f"What shape is the {thing.colour} one?", thing.shape


def ask_count(stage: Still, rng: np.random.Generator) -> Question | None:
    if not stage.scene.things:
        return None
    return "How many shapes are there?", str(len(stage.scene.things))


def ask_existence(stage: Still, rng: np.random.Generator) -> Question | None:
    """Half the answers are yes; what is not there shares its colour or its shape with something that is."""
    things = stage.scene.things
    if not things:
        return None
    names = {(thing.colour, thing.shape) for thing in things}
    if rng.integers(2):
        colour, shape = pick(rng, sorted(names))
        return _is_there(colour, shape), "yes"
    colours, shapes = {c for c, _ in names}, {s for _, s in names}
    near = [(c, s) for c in COLOURS for s in SHAPES if (c in colours) + (s in shapes) and (c, s) not in names]
    both = [name for name in near if name[0] in colours and name[1] in shapes]
    colour, shape = pick(rng, both if both and rng.integers(2) else near)
    return _is_there(colour, shape), "no"


def _is_there(colour: str, shape: str) -> str:
    return f"Is there {'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape}?"


def ask_position(stage: Still, rng: np.random.Generator) -> Question | None:
    scene = stage.scene
    clear = [thing for thing in scene.things if scene.quadrant(thing)]
    if not clear:
        return None
    thing = pick(rng, clear)
    return f"Where is the {thing.name}?", " ".join(scene.quadrant(thing))


def ask_relation(stage: Still, rng: np.random.Generator) -> Question | None:
    things = stage.scene.things
    if len(things) < 2:
        return None
    a, b = (things[i] for i in rng.choice(len(things), 2, replace=False))
    unit = stage.scene.width / EDGE
    axes = [axis for axis in "xy" if abs(getattr(a, axis) - getattr(b, axis)) >= APART * unit]
    if not axes:
        return None
    axis = pick(rng, axes)
    before, after = ("left of", "right of") if axis == "x" else ("above", "below")
    truth = before if getattr(a, axis) < getattr(b, axis) else after
    answer = pick(rng, YES_NO)
    said = truth if answer == "yes" else {before: after, after: before}[truth]
    return f"Is the {a.name} {said} the {b.name}?", answer


def ask_at(stage: Still, rng: np.random.Generator) -> Question | None:
    """What is in a quadrant that one shape alone reaches."""
    scene = stage.scene
    found = []
    for row in ROWS:
        for column in COLUMNS:
            there = [thing for thing in scene.things if scene.reaches(thing, row, column)]
            if len(there) == 1 and scene.quadrant(there[0]) == (row, column):
                found.append((row, column, there[0]))
    if not found:
        return None
    row, column, thing = pick(rng, found)
    return f"What is in the {row} {column}?", thing.name


def draw_pair(rng: np.random.Generator) -> Still:
    return draw_still(rng, fewest=2)


TASKS = {
    "colour": Task(draw_still, ask_colour, tuple(COLOURS)),
    "shape": Task(draw_still, ask_shape, SHAPES),
    "count": Task(draw_still, ask_count, tuple(str(n) for n in range(1, MOST + 1))),
    "existence": Task(draw_still, ask_existence, YES_NO),
    "position": Task(draw_still, ask_position, tuple(f"{r} {c}" for r in ROWS for c in COLUMNS)),
    "relation": Task(draw_pair, ask_relation, YES_NO),
    "what-is-at": Task(draw_still, ask_at, tuple(f"{c} {s}" for c in COLOURS for s in SHAPES)),
}
