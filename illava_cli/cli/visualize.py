"""`illava visualize`: which tokens stay and what merged into what, as a page and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from illava_cli.cli import render
from illava_cli.cli.interrupt import interruptible
from illava_cli.cli.messages import Messages
from illava_cli.cli.options import Images, ModelFlags, Videos, with_model_flags
from illava_cli.cli.output import check_target, emit, make_folder, write_file
from illava_cli.errors import UsageError

if TYPE_CHECKING:
    from illava_cli.engine.clock import LayerClock
    from illava_cli.engine.record import Generation
    from illava_cli.engine.session import Session
    from illava_cli.evals.pair import Pair

PAGE = "index.html"  # in a folder
PAGES = (".html", ".htm")


@dataclass(frozen=True)
class Target:
    """Where a merge map goes: its page, and the folder of its PNG files where they are wanted."""

    page: Path
    pngs: Path | None = None

    @staticmethod
    def of(path: Path, png: bool) -> Target:
        """A file that ends in .html, or a folder, which is made.

        Raises:
            OutputError: it cannot be written to.
            UsageError: PNG files, and no folder for them.
        """
        if path.suffix.lower() not in PAGES or path.is_dir():
            make_folder(path)
            check_target(path / PAGE)
            return Target(path / PAGE, path if png else None)
        if png:
            raise UsageError(f"--png writes several files: give a folder with -o, not {path}")
        check_target(path)
        return Target(path)


@dataclass(frozen=True)
class Question:
    """What is asked about which media; these can be read several times."""

    prompt: str
    images: Sequence[Any]
    videos: Sequence[Any]

    @staticmethod
    def held(prompt: str, images: Sequence[str], videos: Sequence[str]) -> Question:
        """With what comes from stdin, from a pipe or from the network read once, into memory."""
        from illava_cli.media import locate

        return Question(prompt, [locate(source) for source in images], [locate(source) for source in videos])


@with_model_flags
def visualize(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR|FILE.html", help="Where the page goes.")
    ],
    image: Images = None,
    video: Videos = None,
    prompt: Annotated[
        str | None,
        typer.Option("-p", "--prompt", metavar="TEXT", help="The question; - or none reads piped stdin."),
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="Also write PNG files (into the folder).")] = False,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Ask the unmodified model too.")
    ] = True,
    *,
    flags: ModelFlags,
) -> None:
    """Draw which tokens stay, what merged into what, and attention.

    Writes one HTML page that opens from disk, and prints its path.
    """
    from illava_cli.cli.run import expand, read_prompt

    question = read_prompt(prompt, [*(image or []), *(video or [])])
    if not image and not video:
        raise UsageError("there is nothing to draw: give --image or --video")
    images, videos = expand(image), expand(video)
    target = Target.of(output, png)
    messages = Messages(flags.quiet)
    config = flags.config()
    asked = Question.held(question, images, videos)
    with messages.loading(config.model.id):
        from illava_cli.engine.session import Session

        session = Session(config, on_note=messages.note)
    from illava_cli.engine.clock import LayerClock

    clock = LayerClock(session.family)
    if compare and can_differ(session):
        answers = ask_both(session, asked, clock)
        messages.say(render.statistics(answers.merged))
    else:
        answers = ask(session, asked, clock)
        messages.say(render.statistics(answers))
    write_map(session, asked, answers, clock, target, messages)
    emit(f"{target.page}\n")


def can_differ(session: Session) -> bool:
    """Whether a session merges anything, so that there is something to compare."""
    return session.merging and session.family.reduces(session.reduction)


def ask(session: Session, question: Question, clock: LayerClock) -> Generation:
    """One answer, whose layers are timed.

    Raises:
        KeyboardInterrupt: it was stopped.
    """
    with interruptible() as cancel, clock:
        answer = session.ask(question.prompt, question.images, question.videos, cancel=cancel)
    if cancel.is_set():
        raise KeyboardInterrupt
    return answer


def ask_both(session: Session, question: Question, clock: LayerClock | None = None, id: str = "") -> Pair:
    """The answer with merging off and on."""
    from illava_cli.evals import pair

    options = {"clock": clock, "id": id}
    with interruptible() as cancel:
        return pair.ask_both(
            session, question.prompt, question.images, question.videos, cancel=cancel, **options
        )


def write_map(
    session: Session,
    question: Question,
    answers: Generation | Pair,
    clock: LayerClock | None,
    target: Target,
    messages: Messages,
) -> None:
    """Ask once more for a trace, and write the page and the pictures."""
    from illava_cli.evals.pair import short
    from illava_cli.visualize.page import render as render_page
    from illava_cli.visualize.payload import LayerSeconds, drawn, payload
    from illava_cli.visualize.pictures import read_media

    with interruptible() as cancel:
        traced = short(session).ask(
            question.prompt, question.images, question.videos, cancel=cancel, trace="attention"
        )
    if cancel.is_set():
        raise KeyboardInterrupt
    media = read_media(question.images, question.videos, traced.trace["views"], session.sampling)
    shown = drawn(traced.trace, media)
    about = session.describe()
    page = payload(
        shown,
        prompt=question.prompt,
        model=about["model"],
        preset=about["preset"],
        config={name: about[name] for name in ("family", "device", "dtype", "attn", "reduction")},
        answers=_answers(answers),
        seconds=None if clock is None else LayerSeconds(clock.tower, clock.llm),
        notes=traced.notes,
    )
    text = render_page(page)
    write_file(target.page, text)
    messages.notes([*traced.notes, *shown.notes])
    messages.say(f"illava: {target.page}: {render.size(len(text.encode()))}")


def _answers(answers: Generation | Pair) -> dict[str, Any]:
    """The answers as the page shows them."""
    from illava_cli.engine.record import Generation

    if isinstance(answers, Generation):
        return {"merged": _answer(answers.record(), None), "plain": None, "agreement": None}
    record = answers.record()
    compared = record["compared"]
    return {
        "merged": _answer(record, answers.merged_peak),
        "plain": _answer(compared["plain"], answers.plain_peak),
        "agreement": compared["agreement"],
    }


def _answer(record: dict[str, Any], peak: int | None) -> dict[str, Any]:
    shown = {name: record[name] for name in ("text", "usage", "timings")}
    return shown | {"memory": {"peak_bytes": peak}}
