"""`illava run`: one question about images and videos, one answer on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from illava_cli.cli import render
from illava_cli.cli.interrupt import interruptible
from illava_cli.cli.messages import Messages
from illava_cli.cli.options import Format, Images, ModelFlags, Videos, check_format, with_model_flags
from illava_cli.cli.output import check_target, emit, emit_answer, write_file
from illava_cli.errors import UsageError

if TYPE_CHECKING:
    from illava_cli.config import Config
    from illava_cli.engine.record import Generation

STDIN = "-"


@with_model_flags
def run(
    image: Images = None,
    video: Videos = None,
    prompt: Annotated[
        str | None,
        typer.Option("-p", "--prompt", metavar="TEXT", help="The question; - or none reads piped stdin."),
    ] = None,
    format: Format = "text",
    stream: Annotated[
        bool | None,
        typer.Option("--stream/--no-stream", help="Show words as they come (default: on a terminal)."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the result to FILE.")
    ] = None,
    id: Annotated[str, typer.Option("--id", metavar="ID", help="The record's id (JSON).")] = "",
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
        question = read_prompt(prompt, [*(image or []), *(video or [])])
        images, videos = expand(image), expand(video)
        if to_file:
            check_target(output)
        config = flags.config()
        wanted = sys.stdout is not None and sys.stdout.isatty() if stream is None else stream
        on_text = emit_answer if wanted and not as_json and not to_file else None
        answer = _ask(config, question, images, videos, on_text, messages, id)
        if to_file:
            write_file(output, result(answer, as_json))
        elif on_text is None:
            (emit if as_json else emit_answer)(result(answer, as_json))
        elif not answer.text.endswith("\n"):
            emit("\n")
    except (Exception, KeyboardInterrupt) as error:
        # a failure is a record too: every call leaves exactly one object on stdout
        if as_json:
            emit(error_line(error, id, config, flags))
        raise
    messages.notes(answer.notes)
    messages.say(render.statistics(answer))


def read_prompt(prompt: str | None, sources: list[str]) -> str:
    """The question, from the flag or from piped stdin, of which there is only one."""
    uses = sources.count(STDIN) + (prompt == STDIN)
    if uses > 1:
        raise UsageError("- (stdin) can stand for one input only: name files for the others")
    if prompt == STDIN or (prompt is None and uses == 0 and _is_piped()):
        try:
            prompt = sys.stdin.read() if sys.stdin is not None else ""
        except UnicodeDecodeError:
            raise UsageError("the prompt on stdin is not text: give media with --image or --video") from None
    if prompt is None or not prompt.strip():
        raise UsageError("a prompt is required: give --prompt TEXT, or pipe it in")
    return prompt.rstrip("\r\n")


def result(answer: Generation, as_json: bool) -> str:
    """What goes to stdout or to the file, its last newline included."""
    if as_json:
        return json.dumps(answer.record(), ensure_ascii=False) + "\n"
    return answer.text if answer.text.endswith("\n") else answer.text + "\n"


def error_line(error: BaseException, id: str, config: Config | None, flags: ModelFlags) -> str:
    """The record of a failure; the flags say what was wanted where there is no configuration yet."""
    from illava_cli.engine.record import error_record

    model, preset = (config.model.id, config.preset) if config else (flags.model, flags.preset)
    record = error_record(error, id=id, model=model or "", preset=preset or "")
    return json.dumps(record, ensure_ascii=False) + "\n"


def _is_piped() -> bool:
    return sys.stdin is not None and not sys.stdin.isatty()


def expand(sources: list[str] | None) -> list[str]:
    """The sources that were named, globs as the files that they match."""
    if not sources:
        return []
    from illava_cli.media import expand_sources

    return expand_sources(sources)


def _ask(
    config: Config,
    question: str,
    images: list[str],
    videos: list[str],
    on_text: Callable[[str], None] | None,
    messages: Messages,
    id: str,
) -> Generation:
    with messages.loading(config.model.id):
        from illava_cli.engine.session import Session

        session = Session(config, on_note=messages.note)
    with interruptible() as cancel:
        answer = session.ask(question, images=images, videos=videos, on_text=on_text, cancel=cancel, id=id)
    if cancel.is_set():
        if on_text is not None:
            emit("\n")
        raise KeyboardInterrupt
    return answer
