"""`illava run`: one question about images and videos, one answer on stdout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from illava_cli.cli import render
from illava_cli.cli.loading import load
from illava_cli.cli.merge_map import Target, check_drawable, write_map
from illava_cli.cli.messages import Messages
from illava_cli.cli.options import Format, Images, ModelFlags, Prompt, Videos, check_format, with_model_flags
from illava_cli.cli.output import check_target, emit, emit_answer, write_file
from illava_cli.cli.question import STDIN, Question, ask, ask_both, check_greedy
from illava_cli.cli.waiting import waiting
from illava_cli.errors import UsageError
from illava_cli.interrupts import Terminated
from illava_cli.text import json_text

if TYPE_CHECKING:
    from illava_cli.config.settings import Config
    from illava_cli.engine.record import Generation
    from illava_cli.engine.session import Session
    from illava_cli.evals.pair import Pair


@with_model_flags
def run(
    image: Images = None,
    video: Videos = None,
    prompt: Prompt = None,
    format: Format = "text",
    stream: Annotated[
        bool | None,
        typer.Option("--stream/--no-stream", help="Show words as they come (default: on a terminal)."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the result to FILE.")
    ] = None,
    id: Annotated[str, typer.Option("--id", metavar="ID", help="The record's id (JSON).")] = "",
    compare: Annotated[
        bool, typer.Option("--compare", help="Ask the unmodified model too; show both side by side.")
    ] = False,
    save_merge_map: Annotated[
        Path | None,
        typer.Option("--save-merge-map", metavar="DIR", help="Draw which tokens merged: an HTML page there."),
    ] = None,
    *,
    flags: ModelFlags,
) -> None:
    """Ask one question about images and videos.

    Without <image> or <video> in the prompt, media come before the text.
    """
    as_json = check_format(format) == "json"
    to_file = output is not None and str(output) != STDIN
    messages = Messages(flags.quiet)
    config = None
    try:
        if compare and stream:
            raise UsageError("--compare shows both answers once they are there: leave out --stream")
        question = Question.of(prompt, image, video)
        if to_file:
            check_target(output)
        config = flags.config()
        if compare:
            check_greedy(config)
        target = None if save_merge_map is None else _target(save_merge_map, question)
        wanted = sys.stdout is not None and sys.stdout.isatty() if stream is None else stream
        on_text = emit_answer if wanted and not as_json and not to_file and not compare else None
        session = load(config, messages)
        if target is not None:
            check_drawable(session)
        if compare or target:
            question = question.held(config.media.media_timeout)
        if compare:
            answers = _both(session, question, id)
        else:
            with waiting(messages) as progress:
                answers = ask(session, question, on_text, id=id, progress=progress)
        if to_file:
            write_file(output, result(answers, as_json))
        elif on_text is None:
            (emit if as_json else emit_answer)(result(answers, as_json))
        elif not answers.text.endswith("\n"):
            emit("\n")
    except (Exception, KeyboardInterrupt, Terminated) as error:
        # a failure is a record too: every call leaves exactly one object on stdout
        if as_json:
            emit(error_line(error, id, config, flags))
        raise
    answer = answers.merged if compare else answers
    messages.notes(answer.notes)
    messages.say(render.statistics(answer))
    if target is not None:
        write_map(session, question, answers, None, target, messages)


def _target(path: Path, question: Question) -> Target:
    """Where a merge map goes."""
    if not question.images and not question.videos:
        raise UsageError("--save-merge-map draws media: give --image or --video")
    return Target.of(path, png=False)


def _both(session: Session, question: Question, id: str) -> Pair:
    """The answers with merging off and on."""
    if not session.reduces:
        raise UsageError("--compare: nothing merges here, so there is nothing to compare: name a --preset")
    return ask_both(session, question, id=id)


def result(answer: Generation | Pair, as_json: bool) -> str:
    """What goes to stdout or to the file, its last newline included."""
    if as_json:
        return json_text(answer.record()) + "\n"
    if not hasattr(answer, "text"):
        return render.side_by_side(answer) + "\n"
    return answer.text if answer.text.endswith("\n") else answer.text + "\n"


def error_line(error: BaseException, id: str, config: Config | None, flags: ModelFlags) -> str:
    """The record of a failure; the flags say what was wanted where there is no configuration yet."""
    from illava_cli.engine.record import error_record

    model, preset = (config.model.id, config.preset) if config else (flags.model, flags.preset)
    record = error_record(error, id=id, model=model or "", preset=preset or "")
    return json_text(record) + "\n"
