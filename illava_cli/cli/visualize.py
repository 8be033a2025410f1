"""`illava visualize`: which tokens stay and what merged into what, as a page and as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from illava_cli.cli import render
from illava_cli.cli.loading import load
from illava_cli.cli.merge_map import Target, check_drawable, write_map
from illava_cli.cli.messages import Messages
from illava_cli.cli.options import Images, ModelFlags, Prompt, Videos, with_model_flags
from illava_cli.cli.output import emit
from illava_cli.cli.question import Question, ask, ask_both, check_greedy
from illava_cli.errors import UsageError


@with_model_flags
def visualize(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR|FILE.html", help="Where the page goes.")
    ],
    image: Images = None,
    video: Videos = None,
    prompt: Prompt = None,
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
    question = Question.of(prompt, image, video)
    if not image and not video:
        raise UsageError("there is nothing to draw: give --image or --video")
    config = flags.config()
    if compare:
        check_greedy(config)
    target = Target.of(output, png)
    messages = Messages(flags.quiet)
    session = load(config, messages)
    check_drawable(session)
    question = question.held(config.media.media_timeout)
    from illava_cli.engine.clock import LayerClock

    clock = LayerClock(session.family)
    if compare and session.reduces:
        answers = ask_both(session, question, clock)
        messages.say(render.statistics(answers.merged))
    else:
        with clock:
            answers = ask(session, question)
        messages.say(render.statistics(answers))
    write_map(session, question, answers, clock, target, messages)
    emit(f"{target.page}\n")
