"""`illava bench serve`: what a server does under load, any that speaks as OpenAI's does, or one of ours.

The tables go to stderr; `--format json` writes the report to stdout, `--save` and `--markdown` to files.
"""

from __future__ import annotations

import re
import secrets
import shlex
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from illava_cli.cli.asking import Markdown, Save
from illava_cli.cli.messages import FAILED, Messages
from illava_cli.cli.options import Format, ModelFlags, check_format, with_model_flags
from illava_cli.cli.output import check_targets, emit, write_file
from illava_cli.cli.render import table
from illava_cli.cli.server import ServerKey, ServerModel
from illava_cli.errors import IllavaError, UsageError
from illava_cli.interrupts import Interrupts
from illava_cli.text import json_text

if TYPE_CHECKING:
    from illava_cli.bench.serving.loads import Load
    from illava_cli.bench.serving.measuring import Target
    from illava_cli.bench.serving.questions import Questions

ADDRESS = "http://127.0.0.1:8000/v1"
PROMPT = "Describe what is shown here."
CLIENTS = (1, 16)
REQUESTS = 64
SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
EDGE, LARGEST = 384, 16384  # pixels
NOT_OURS = ("start", "end", "temperature", "top_p", "top_k", "min_p", "stop", "json_schema", "system", "seed")


@with_model_flags(without=("preset", "max_tokens", *NOT_OURS))
def bench_serve(
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="URL", help=f"The server ({ADDRESS}); or -m starts one."),
    ] = None,
    server_key: ServerKey = None,
    server_model: ServerModel = None,
    serve_args: Annotated[
        str, typer.Option("--serve-args", metavar="'ARGS'", help="With -m: more flags of illava serve.")
    ] = "",
    preset: Annotated[
        list[str] | None,
        typer.Option("--preset", metavar="NAME", help="Merging schedule; repeats, to compare."),
    ] = None,
    concurrency: Annotated[
        list[int] | None,
        typer.Option("--concurrency", metavar="N", help="Clients at once; repeats (default: 1 and 16)."),
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option("--rate", metavar="X", help="Requests a second, at random times; repeats."),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option("--requests", metavar="N", min=1, help=f"Requests of each load ({REQUESTS})."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="S", help="Seconds of each load, instead.")
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option("--warmup", metavar="N", min=0, help="Requests before, not counted (one a client)."),
    ] = None,
    media: Annotated[
        list[str] | None,
        typer.Option("--media", metavar="SOURCE", help="File, folder, glob or manifest, in turn; repeats."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="WxH", help=f"Synthetic pictures, all different ({EDGE}x{EDGE})."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", metavar="N", min=1, help="Synthetic clips of N frames instead.")
    ] = None,
    repeat: Annotated[
        float,
        typer.Option("--repeat", metavar="X", min=0, max=1, help="Share about a picture asked before."),
    ] = 0.0,
    turns: Annotated[int, typer.Option("--turns", metavar="N", min=1, help="Turns of a conversation.")] = 1,
    prompt: Annotated[str, typer.Option("-p", "--prompt", metavar="TEXT", help="The question.")] = PROMPT,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="N", min=1, help="Longest answer, in tokens.")
    ] = 16,
    equal_length: Annotated[
        bool, typer.Option("--equal-length", help="Every answer that long, where the server can.")
    ] = False,
    end_token: Annotated[
        list[int] | None,
        typer.Option("--end-token", metavar="ID", help="Which ends an answer, for --equal-length; repeats."),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="S", min=0.1, help="Seconds for an answer.")
    ] = 120.0,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, help="Of pictures and times (default: new ones)."),
    ] = None,
    format: Format = "text",
    save: Save = None,
    markdown: Markdown = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw throughput and first tokens.")
    ] = None,
    *,
    flags: ModelFlags,
) -> None:
    """Measure a server under load: any that speaks as OpenAI's does.

    Without -m it is one that runs. --concurrency keeps so many clients asking;
    --rate lets requests come whether the server is done with others or not.
    Times are those that a client sees. Exit 3 where all requests of a load
    failed; Ctrl-C ends with what was measured.
    """
    as_json = check_format(format) == "json"
    check_targets((save, markdown), plot)
    loads = _loads(concurrency, rate)
    if requests is not None and seconds is not None:
        raise UsageError("--requests and --seconds exclude each other: give one")
    from illava_cli.config.options import LONGEST_S

    for name, value in (("--seconds", seconds), ("--timeout", timeout)):
        if value is not None and not 0 < value <= LONGEST_S:
            raise UsageError(f"{name}: must be more than 0 seconds, and at most {LONGEST_S}")
    targets = _targets(flags, server, server_key, server_model, _split(serve_args), preset or [])
    seed = secrets.randbits(31) if seed is None else seed
    messages = Messages(flags.quiet)
    questions = _questions(media, size, frames, repeat, prompt, seed, flags, messages)
    if frames is not None:  # all of them are to be looked at
        targets = [_with_frames(target, frames) for target in targets]
    from illava_cli.bench.serving.measuring import Plan, measure

    plan = Plan(
        loads=loads,
        questions=questions,
        turns=turns,
        max_tokens=max_tokens,
        equal_length=equal_length,
        end_tokens=_end_tokens(flags, end_token) if equal_length else (),
        requests=REQUESTS if requests is None and seconds is None else requests,
        seconds=seconds,
        warmup=warmup,
        timeout=timeout,
        seed=seed,
    )
    kept = ("requests", "seconds", "warmup", "turns", "max_tokens", "equal_length", "timeout", "seed")
    settings = {name: getattr(plan, name) for name in kept}
    report: dict[str, Any] = {"settings": settings | {"prompt": prompt, "media": questions().describe()}}
    failure = None
    with Interrupts(at_once=False) as interrupts:
        try:
            measure(targets, plan, report, interrupts, _progress(messages))
        except IllavaError as error:
            if not report["results"]:
                raise
            failure = error  # what was measured of the servers before it is not lost
    if report["results"]:
        _finish(report, messages, as_json=as_json, save=save, markdown=markdown, plot=plot)
    if failure is not None:
        raise failure
    if interrupts.stop.is_set():
        raise interrupts.ending()
    if any(0 < result["requests"] == result["failed"] for result in report["results"]):
        raise typer.Exit(FAILED)


def _loads(concurrency: list[int] | None, rate: list[float] | None) -> list[Load]:
    from illava_cli.bench.serving.loads import Load

    if any(value < 1 for value in concurrency or []):
        raise UsageError("--concurrency: must be 1 or more")
    if any(not 0 < value <= 1e6 for value in rate or []):
        raise UsageError("--rate: must be more than 0 requests a second")
    clients = concurrency or ([] if rate else CLIENTS)
    return [*(Load("clients", one) for one in clients), *(Load("rate", one) for one in rate or [])]


def _targets(
    flags: ModelFlags,
    server: str | None,
    key: str | None,
    model: str | None,
    serve_args: list[str],
    presets: list[str],
) -> list[Target]:
    """The servers: one of ours for each preset, or the one that runs, asked under each."""
    from illava_cli.bench.serving.measuring import Target
    from illava_cli.config.presets import preset_label

    if flags.model is not None:
        if server is not None or model is not None:
            raise UsageError("-m starts a server, --server and --server-model ask one that runs: give one")
        for one in presets or [None]:
            replace(flags, preset=one).config()  # mistakes are told before anything is started
        shared = [*arguments(flags), *serve_args]
        return [
            Target(preset_label(one) if one else "auto", [*shared, *(["--preset", one] if one else [])])
            for one in presets or [None]
        ]
    given = [*arguments(replace(flags, quiet=False)), *serve_args]
    if given:
        raise UsageError(f"{given[0]} is for a server that is started: name its model with -m")
    from illava_cli.client.server import Server

    running = Server.of(server or ADDRESS, key)
    return [
        Target(one or "server", server=running, model=model, fields={"preset": one} if one else {})
        for one in presets or [None]
    ]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--serve-args {text!r}: {error}") from None


def arguments(flags: ModelFlags) -> list[str]:
    """The flags that were given, as they are written; how much is said is nobody else's."""
    hints, found = get_type_hints(ModelFlags, include_extras=True), []
    for field in fields(flags):
        value = getattr(flags, field.name)
        if value is None or value == [] or field.name in ("quiet", "debug"):
            continue
        option = hints[field.name].__metadata__[0]
        name = [one for one in (option.default, *(option.param_decls or ())) if isinstance(one, str)][-1]
        if isinstance(value, bool):
            found.append(name.split("/")[0 if value else 1])
            continue
        for one in value if isinstance(value, list) else [value]:
            found += [name, str(one)]
    return found


def _questions(
    media: list[str] | None,
    size: str | None,
    frames: int | None,
    repeat: float,
    prompt: str,
    seed: int,
    flags: ModelFlags,
    messages: Messages,
) -> Callable[[], Questions]:
    """Makes the questions, the same for each server."""
    from illava_cli.bench.serving.questions import Asked, Recorded, Synthetic

    if media:
        if size is not None or frames is not None or repeat:
            raise UsageError("--media are your own; --size, --frames and --repeat are for synthetic ones")
        from illava_cli.batch.inputs import read_inputs

        items = read_inputs(media, [prompt], on_note=messages.note)
        recorded = Recorded([Asked(item.prompt, *item.sources) for item in items], flags.media_timeout)
        return lambda: recorded
    width, height = _size(size)
    if frames is not None and (width % 2 or height % 2):
        raise UsageError("--size: width and height of a clip must be even")
    return lambda: Synthetic(prompt, (width, height), frames, repeat, seed)


def _size(text: str | None) -> tuple[int, int]:
    if text is None:
        return EDGE, EDGE
    found = SIZE.fullmatch(text.strip().lower())
    width, height = map(int, found.groups()) if found else (0, 0)
    if not (1 <= width <= LARGEST and 1 <= height <= LARGEST):
        raise UsageError(f"--size {text!r}: write width and height in pixels, such as 1024x768")
    return width, height


def _with_frames(target: Target, frames: int) -> Target:
    return replace(target, fields=target.fields | {"media_io_kwargs": {"video": {"num_frames": frames}}})


def _end_tokens(flags: ModelFlags, given: list[int] | None) -> list[int]:
    from illava_cli.bench.serving.lengths import end_tokens

    if given or flags.model is None:
        return given or []
    return end_tokens(flags.config())


def _progress(messages: Messages) -> Callable[[str], None]:
    """A line for each step, for a person who waits: on a terminal only."""
    if messages.quiet or sys.stderr is None or not sys.stderr.isatty():
        return lambda text: None
    return messages.say


def _finish(
    report: dict[str, Any],
    messages: Messages,
    *,
    as_json: bool,
    save: Path | None,
    markdown: Path | None,
    plot: Path | None,
) -> None:
    """The report to where it was asked for."""
    from illava_cli.bench.machine import describe
    from illava_cli.bench.serving import text as words

    report["machine"] = describe()
    text = json_text(report) + "\n"
    if save is not None:
        write_file(save, text)
    if markdown is not None:
        write_file(markdown, words.page(report))
    if plot is not None:
        from illava_cli.bench.serving.plot import plot_serving

        plot_serving(report["results"], words.headline(report), plot)
    if as_json:
        emit(text)
    show = messages.say if as_json else messages.show
    show(words.headline(report))
    for header, rows in words.tables(report):
        show("\n" + table(header, rows))
    for note in report["notes"]:
        messages.note(note)
