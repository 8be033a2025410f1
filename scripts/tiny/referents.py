"""Where the things lie that a question names: labels for `Grounding` and `Comparing`.

A referent is what a phrase of the question stands for: "the red circle", "the top left", "row FROG".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from illava_cli.evals.world.pages import DAYS, Chart, Lines, Screen
from illava_cli.evals.world.scene import COLOURS, COLUMNS, ROWS, SHAPES, WORDS, Scene, Thing
from illava_cli.evals.world.sheet import Sheet, Text, font
from illava_cli.evals.world.task import Album, Clip, Stage, Still

Place = tuple[float, float]  # across and down, as shares of the picture


@dataclass(frozen=True)
class Referent:
    """What a phrase stands for; what is unknown or does not apply is None.

    Args:
        end: characters of the question up to the end of the phrase.
        there: whether it is anywhere.
        first, last: its place in the first and the last frame in which it is seen.
        name: (colour, shape) of the one thing that is meant.
        image: which image of an album has it.
        seen: for each frame of a clip whether it is to be seen.
    """

    end: int
    there: bool
    first: Place | None = None
    last: Place | None = None
    name: tuple[str, str] | None = None
    image: int | None = None
    seen: tuple[bool, ...] | None = None


NAMED = re.compile(rf"\b(?:({'|'.join(COLOURS)}) )?({'|'.join(SHAPES)})\b|\b({'|'.join(COLOURS)}) one\b")
QUADRANT = re.compile(rf"\b({'|'.join(ROWS)}) ({'|'.join(COLUMNS)})\b")
SIDES = ("left of", "right of", "above", "below")
BEFORE = SIDES.index("left of"), SIDES.index("above")
PRINTED = re.compile(rf"\b({'|'.join((*WORDS, *DAYS))}|line \d)\b")


def referents(stage: Stage, prompt: str) -> list[Referent]:
    """Of the phrases of a question, in their order."""
    match stage:
        case Still(Sheet() as sheet):
            return [_printed(sheet, found) for found in PRINTED.finditer(prompt)]
        case Still(scene):
            found = [_named(scene, match) for match in NAMED.finditer(prompt)]
            return found + [_at(scene, match) for match in QUADRANT.finditer(prompt)]
        case Album(scenes):
            return [_which(scenes, match) for match in NAMED.finditer(prompt)]
        case Clip(frames):
            return [_over_time(frames, match) for match in NAMED.finditer(prompt)]


def side(prompt: str) -> int | None:
    """Which of `SIDES` a question asks about."""
    return next((number for number, words in enumerate(SIDES) if f" {words} " in prompt), None)


def evidence(stage: Stage, prompt: str, answer: str) -> Place | None:
    """Where the answer is to be seen: its text, unless it stands in several places.

    What has seen both (`Binding`) comes after the other one: a bar's name, the lower button, the right one.
    """
    match stage:
        case Still(Sheet(content=Chart(bars)) as sheet) if answer.isdigit():
            return _place_of(sheet, next(label for label, value in bars.items() if str(value) == answer))
        case Still(Sheet(content=Screen()) as sheet) if side(prompt) in BEFORE:
            return _place_of(sheet, PRINTED.search(prompt).group())
        case Still(Sheet() as sheet):
            return _place_of(sheet, answer)
        case Still(scene):
            found = [sign for sign in scene.signs if sign.text == answer]
            if len(found) == 1:
                x, y = found[0].x + found[0].width / 2, found[0].y + found[0].height / 2
                return x / scene.width, y / scene.height
    return None


def _fits(thing: Thing, found: re.Match) -> bool:
    colour, shape, alone = found.groups()
    if alone:
        return thing.colour == alone
    return thing.shape == shape and colour in (None, thing.colour)


def _place(thing: Thing, scene: Scene) -> Place:
    return thing.x / scene.width, thing.y / scene.height


def _meant(scene: Scene, things: list[Thing], end: int) -> Referent:
    if len(things) != 1:
        return Referent(end, bool(things))
    place = _place(things[0], scene)
    return Referent(end, True, place, place, (things[0].colour, things[0].shape))


def _named(scene: Scene, found: re.Match) -> Referent:
    return _meant(scene, [thing for thing in scene.things if _fits(thing, found)], found.end())


def _at(scene: Scene, found: re.Match) -> Referent:
    things = [thing for thing in scene.things if scene.reaches(thing, *found.groups())]
    return _meant(scene, things, found.end())


def _which(scenes: tuple[Scene, ...], found: re.Match) -> Referent:
    fits = [(i, thing) for i, scene in enumerate(scenes) for thing in scene.things if _fits(thing, found)]
    if len(fits) != 1:
        return Referent(found.end(), bool(fits))
    [(index, thing)] = fits
    place = _place(thing, scenes[index])
    return Referent(found.end(), True, place, place, (thing.colour, thing.shape), image=index)


def _over_time(frames: tuple[Scene, ...], found: re.Match) -> Referent:
    tracks = [[thing for thing in frame.things if _fits(thing, found)] for frame in frames]
    seen = tuple(bool(things) for things in tracks)
    shown = [(things[0], frame) for things, frame in zip(tracks, frames, strict=True) if things]
    if not shown or any(len(things) > 1 for things in tracks):
        return Referent(found.end(), bool(shown))
    thing = shown[0][0]
    first, last = _place(*shown[0]), _place(*shown[-1])
    return Referent(found.end(), True, first, last, (thing.colour, thing.shape), seen=seen)


def _printed(sheet: Sheet, found: re.Match) -> Referent:
    place = _place_of(sheet, found.group().removeprefix("line "))
    return Referent(found.end(), place is not None, place, place)


def _place_of(sheet: Sheet, words: str) -> Place | None:
    """The middle of a text or of one word of a line, where it stands only once."""
    places = []
    for text in sheet.texts:
        parts = text.words.split("  ") if isinstance(sheet.content, Lines) else [text.words]
        for index, part in enumerate(parts):
            if part == words:
                places.append(_middle(text, "  ".join([*parts[:index], ""]), part))
    if len(places) != 1:
        return None
    return places[0][0] / sheet.width, places[0][1] / sheet.height


def _middle(text: Text, before: str, part: str) -> Place:
    left, top, _, bottom = text.box
    start = left + font(text.size).getlength(before)
    return start + font(text.size).getlength(part) / 2, (top + bottom) / 2
