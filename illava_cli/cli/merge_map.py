"""A merge map of an answer: where it goes, and the traced request behind it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from illava_cli.cli import render
from illava_cli.cli.messages import Messages
from illava_cli.cli.output import check_target, make_folder, write_file
from illava_cli.cli.question import STDIN, Question, ask
from illava_cli.errors import OutputError, UsageError

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
            UsageError: stdout; or PNG files, and no folder for them.
        """
        if str(path) == STDIN:
            raise UsageError("a merge map does not go to stdout: name a folder, or a page that ends in .html")
        if path.suffix.lower() not in PAGES or path.is_dir():
            if path.is_file():
                raise OutputError(f"{path} is a file: name a folder, or a page that ends in .html")
            make_folder(path)
            check_target(path / PAGE)
            return Target(path / PAGE, path if png else None)
        if png:
            raise UsageError(f"--png writes several files: give a folder with -o, not {path}")
        check_target(path)
        return Target(path)


def check_drawable(session: Session) -> None:
    """Refuse a schedule of which no map can be drawn, before anything is asked.

    Raises:
        UsageError: a guide shows the tower a part of each picture, and a map shows whole ones.
    """
    if session.guide is not None:
        method = session.schedules["image"].guide.method
        raise UsageError(f"a merge map shows whole pictures, {method} a part of each: leave it out")


def write_map(
    session: Session,
    question: Question,
    answers: Generation | Pair,
    clock: LayerClock | None,
    target: Target,
    messages: Messages,
) -> None:
    """Ask once more for a trace, and write the page and the pictures."""
    from illava_cli.engine.media import sampling
    from illava_cli.evals.pair import short
    from illava_cli.media import within
    from illava_cli.visualize.page import render as render_page
    from illava_cli.visualize.payload import LayerSeconds, drawn, payload
    from illava_cli.visualize.pictures import read_media

    traced = ask(short(session), question, trace="attention")
    read = partial(read_media, question.images, question.videos, traced.trace["views"])
    # in a thread, since a decoder hears no Ctrl-C
    media = within(lambda: read(sampling(session.config.media)), "the media")
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
    if target.pngs is not None:
        from illava_cli.visualize.png import write_pngs

        for path in write_pngs(shown, target.pngs):
            messages.say(f"illava: {path}: {render.size(path.stat().st_size)}")


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
