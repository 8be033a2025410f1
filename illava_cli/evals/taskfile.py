"""Where questions come from: JSONL files of a user's own, and the built-in world.

A question is made when its turn comes, so that thousands of pictures need not be in memory together.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from illava_cli.engine.fields import json_object, media_field, refuse_unknown, text_field
from illava_cli.errors import UsageError
from illava_cli.evals.matching import chosen
from illava_cli.evals.sample import EvalSample
from illava_cli.evals.world import GROUPS, TASKS, check_split, generate
from illava_cli.evals.world.motion import LONG_FRAMES, LONG_TASKS
from illava_cli.media.sources import located
from illava_cli.text import decoded, lines, near_miss, spelled

WORLD = "world"
FIELDS = ("id", "task", "image", "images", "video", "videos", "prompt", "answer", "choices")
Question = Callable[[], EvalSample]
T = TypeVar("T")

logger = logging.getLogger("illava")


def is_built_in(source: str) -> bool:
    """Whether a source is of the world, and no file."""
    return source.partition(":")[0] in GROUPS and not Path(source).exists()


def questions(
    sources: Sequence[str], count: int, split: str = "heldout", frames: int | None = None
) -> list[Question]:
    """The questions of all sources, in their order.

    Args:
        sources: paths of JSONL files, `world`, `documents`, `long`, `world:TASK,TASK`, or a hand that draws
            the world (`outlined`, `shaded`, `chalk`).
        count: questions of the world, dealt out over its tasks in turn.
        split: of the world.
        frames: of a clip, so many are shown; where the world's have more, a warning says so.

    Raises:
        UsageError: an unknown split or task, or a broken file; names the file and the line.
    """
    check_split(split)
    found: list[Question] = []
    seen: dict[str, str] = {}
    tasks: list[str] = []
    for source in sources:
        if is_built_in(source):
            tasks += _world_tasks(source)
            continue
        for where, sample in read_file(Path(source)):
            if sample.id in seen:
                raise UsageError(f"{where}: the id {sample.id!r} is taken by {seen[sample.id]}")
            seen[sample.id] = where
            found.append(partial(_same, sample))
    if frames is not None and frames < LONG_FRAMES and not LONG_TASKS.keys().isdisjoint(tasks):
        logger.warning(
            "long: of %d frames %d are shown; --num-frames %d shows all", LONG_FRAMES, frames, LONG_FRAMES
        )
    return found + _world(list(dict.fromkeys(tasks)), count, split)


def limited(questions: list[T], limit: int | None, seed: int) -> list[T]:
    """`limit` of the questions, drawn by `seed` and in their order; all without a limit."""
    if limit is None or limit >= len(questions):
        return questions
    return [questions[i] for i in sorted(random.Random(seed).sample(range(len(questions)), limit))]


def _same(sample: EvalSample) -> EvalSample:
    return sample


def _world_tasks(source: str) -> list[str]:
    """The tasks that a source names: all of a group, or of `world:TASK` any that there is."""
    group, _, picked = source.partition(":")
    known = list(TASKS if group == WORLD else GROUPS[group])
    names = [name.strip() for name in picked.split(",") if name.strip()]
    for name in names:
        if name not in known:
            hint = near_miss(name, known)
            raise UsageError(f"--tasks {source}: unknown task {name!r}{hint} (there are: {', '.join(known)})")
    return names or list(GROUPS[group])


def _world(tasks: list[str], count: int, split: str) -> list[Question]:
    if not tasks:
        return []
    # as `world.questions` deals them out, each made on its own
    return [partial(generate, tasks[i % len(tasks)], i // len(tasks), split) for i in range(count)]


def read_file(path: Path) -> Iterator[tuple[str, EvalSample]]:
    """The samples of a JSONL file, each with its place (`FILE, line N`); paths are relative to its folder.

    Raises:
        UsageError: a missing file, or a line that is no question.
    """
    try:
        text = decoded(path.read_bytes(), str(path))
    except OSError as error:
        hint = near_miss(str(path), list(GROUPS))
        reason = error.strerror or error
        raise UsageError(
            f"cannot read the task file {path}: {reason}{hint} (--tasks takes a JSONL file or {WORLD})"
        ) from None
    empty = True
    for number, line in enumerate(lines(text), 1):
        if line.strip():
            empty = False
            where = f"{path}, line {number}"
            data = json_object(line, where, "image or video, prompt and answer")
            refuse_unknown(data, FIELDS, where)
            yield where, _sample(data, where, path, number)
    if empty:
        raise UsageError(f"{path} holds no questions: one JSON object a line is expected")


def _sample(data: dict[str, Any], where: str, path: Path, number: int) -> EvalSample:
    prompt = text_field(data, "prompt", where)
    if prompt is None or not prompt.strip():
        raise UsageError(f"{where}: the prompt is missing")
    images, videos = (
        tuple(located(name, path.parent) for name in media_field(data, kind, where))
        for kind in ("image", "video")
    )
    if not images and not videos:
        raise UsageError(f"{where}: names no image and no video")
    answer, choices = text_field(data, "answer", where), _choices(data, where)
    if choices is not None:
        if answer is None:
            raise UsageError(f"{where}: choices need the answer among them")
        right = chosen(answer, choices)
        if right is None:
            raise UsageError(f"{where}: the answer {answer!r} is none of the choices")
        answer = right
    return EvalSample(
        id=spelled(text_field(data, "id", where) or f"{path.stem}:{number}"),
        task=text_field(data, "task", where) or path.stem,
        prompt=prompt,
        answer=answer,
        choices=choices,
        images=images,
        videos=videos,
    )


def _choices(data: dict[str, Any], where: str) -> tuple[str, ...] | None:
    value = data.get("choices")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) < 2:
        raise UsageError(f"{where}: choices must be a list of two or more texts")
    choices = tuple(text_field({"choices": item}, "choices", where) or "" for item in value)
    if len(set(choices)) < len(choices) or not all(map(str.strip, choices)):
        raise UsageError(f"{where}: choices must differ, and none may be empty")
    return choices
