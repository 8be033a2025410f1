"""What a search asks: built-in questions, a user's own, or general ones about pictures that have none."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from illava_cli.batch.inputs import read_inputs
from illava_cli.batch.manifest import is_manifest
from illava_cli.errors import UsageError
from illava_cli.evals.sample import EvalSample
from illava_cli.evals.taskfile import is_built_in, limited
from illava_cli.evals.taskfile import questions as read_questions

PROMPTS = (
    "Describe this in one sentence.",
    "How many things can you count here?",
    "What text can be read here?",
    "Where is the main thing, and what is around it?",
)
KINDS = ("image", "video")
CHECK = 3  # of the questions, one in so many is asked at the end only
FEWEST = 8  # questions of a kind of medium that tell anything


@dataclass(frozen=True)
class Part:
    """The questions about one kind of medium: those of the search, and those of the check alone."""

    search: list[EvalSample]
    check: list[EvalSample]

    @property
    def marked(self) -> bool:
        """Whether the right answer to every question is known."""
        return all(sample.answer is not None for sample in self.all)

    @property
    def all(self) -> list[EvalSample]:
        return self.search + self.check


def parts(
    tasks: Sequence[str],
    pictures: Sequence[str],
    count: int,
    limit: int | None,
    seed: int,
    on_note: Callable[[str], None] = lambda text: None,
) -> dict[str, Part]:
    """The questions by kind of medium.

    The built-in ones for the search are those for validation; the check has held-out ones. Others are dealt
    out by `seed`, all questions about the same media to the same side.

    Args:
        tasks: as of `--tasks`.
        pictures: files and folders about which general questions are asked.
        count: built-in questions, search and check together.
        limit: the most of all others.
        on_note: takes one-line messages for a person (files left out).

    Raises:
        UsageError: too few of a kind, or none at all.
    """
    built_in = [source for source in tasks if is_built_in(source)]
    search: list[EvalSample] = []
    check: list[EvalSample] = []
    if built_in:
        later = -(-count // CHECK)
        search += [ask() for ask in read_questions(built_in, count - later, split="validation")]
        check += [ask() for ask in read_questions(built_in, later)]
    files = [source for source in tasks if not is_built_in(source)]
    own = [ask() for ask in read_questions(files, 0)] if files else []
    own = limited(own + made_up(pictures, on_note), limit, seed)
    random.Random(seed).shuffle(own)
    for kind in KINDS:
        of_kind = _by_media([sample for sample in own if kind_of(sample) == kind])
        later = -(-len(of_kind) // CHECK)
        check += [sample for group in of_kind[:later] for sample in group]
        search += [sample for group in of_kind[later:] for sample in group]
    _refuse_twins(search + check)
    if own:  # or early rounds would be of one source, or of one picture
        random.Random(seed).shuffle(search)
    found = {}
    for kind in KINDS:
        part = Part(*([s for s in half if kind_of(s) == kind] for half in (search, check)))
        if part.all and (len(part.all) < FEWEST or not part.search or not part.check):
            raise UsageError(f"{len(part.all)} questions about {kind}s tell nothing: give at least {FEWEST}")
        if part.all:
            found[kind] = part
    if not found:
        raise UsageError("no questions: name a task file with --tasks, or pictures with --images")
    return found


def _by_media(samples: Sequence[EvalSample]) -> list[list[EvalSample]]:
    """Those about the same media together."""
    found: dict[tuple, list[EvalSample]] = {}
    for sample in samples:
        found.setdefault((sample.images, sample.videos), []).append(sample)
    return list(found.values())


def _refuse_twins(samples: Sequence[EvalSample]) -> None:
    for name, count in Counter(sample.id for sample in samples).items():
        if count > 1:
            raise UsageError(f"two questions have the id {name!r}: give one of them another")


def made_up(pictures: Sequence[str], on_note: Callable[[str], None]) -> list[EvalSample]:
    """General questions about files that come with none.

    Raises:
        UsageError: a manifest, whose questions are not these, or stdin.
        MediaError: a file that is not there.
    """
    for name in pictures:
        if name == "-" or is_manifest(Path(name)):
            raise UsageError(
                f"--images {name}: name pictures, clips or folders of them; questions go to --tasks"
            )
    return [
        EvalSample(item.id, "made up", item.prompt, None, images=item.images, videos=item.videos)
        for item in (read_inputs(pictures, PROMPTS, recursive=True, on_note=on_note) if pictures else ())
    ]


def kind_of(sample: EvalSample) -> str:
    """By which a session takes its decoder's schedule: images go first."""
    return "image" if sample.images else "video"
