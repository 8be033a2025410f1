"""What `illava eval` and `illava compare` share: questions asked under several variants of a loaded model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from illava_cli.cli.messages import FAILED, SHOWN, Messages
from illava_cli.cli.options import ModelFlags
from illava_cli.errors import ModelError, UsageError
from illava_cli.interrupts import Interrupts, Terminated

if TYPE_CHECKING:
    from illava_cli.cli.server import ServerFlags
    from illava_cli.client.calls import Client
    from illava_cli.config.settings import Config
    from illava_cli.engine.session import Session
    from illava_cli.evals.lanes import AnyLane, Lane
    from illava_cli.evals.results import Results
    from illava_cli.evals.taskfile import Question
    from illava_cli.evals.variants import Variant

Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--tasks",
        metavar="SOURCE",
        help="JSONL file, world, documents, long (clips, with --num-frames 16), world:TASK,TASK, or the "
        "world as another hand draws it (outlined, shaded, chalk); repeats (default: world).",
    ),
]
Questions = Annotated[
    int, typer.Option("--questions", metavar="N", min=1, help="Questions of the world, over its tasks.")
]
Split = Annotated[
    str,
    typer.Option(
        "--split",
        metavar="heldout|validation|train",
        help="Which of the world's questions: choose on validation, report on heldout.",
    ),
]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="Ask N of all questions, drawn by --seed.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help="Questions in one pass.")]
Save = Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Write the JSON report to FILE.")]
Markdown = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="Write the tables as Markdown.")
]

Resolve = Callable[[list[str]], "Config"]
MAX_TOKENS = 32  # answers are short; where the user sets none


class Stopped(Exception):
    """A signal came: the `figures` of what was answered until then, and the `ending` that is to be raised."""

    def __init__(self, figures: dict[str, Any], ending: BaseException):
        super().__init__()
        self.figures, self.ending = figures, ending


def resolver(flags: ModelFlags, asked: ServerFlags | None = None) -> Resolve:
    """Configurations under the flags and further settings, with short answers where nobody says how long.

    Args:
        asked: the server that answers, where one does.
    """

    def resolve(settings: list[str]) -> Config:
        if asked is not None:
            config = asked.config(flags, settings)
        else:
            config = replace(flags, settings=[*(flags.settings or []), *settings]).config()
        if "max_tokens" in config.generation.model_fields_set:
            return config
        generation = config.generation.model_copy(update={"max_tokens": MAX_TOKENS})
        return config.model_copy(update={"generation": generation})

    return resolve


def lanes_of(
    session: Session,
    compared: list[Variant],
    *,
    skip: Callable[[str], None] | None = None,
    least_tokens: int | None = None,
) -> list[Lane]:
    """The variants on one loaded model.

    Args:
        skip: told which variants are left out, because the checkpoint of their guide is not to be had.
        least_tokens: media of fewer visual tokens are left whole; None: as each preset has it.

    Raises:
        UsageError: names the variant that the model refuses.
        ModelError: the checkpoint of a guide is not to be had.
    """
    from illava_cli.evals.lanes import Lane

    lanes = []
    for variant in compared:
        try:
            under = session.under(variant.config)
            if least_tokens is not None:
                under = replace(under, min_visual_tokens=least_tokens)
            lanes.append(Lane(variant, under))
        except UsageError as error:
            raise UsageError(f"variant {variant.name!r}: {error}") from None
        except ModelError as error:
            if skip is None:
                raise
            skip(f"illava: left out: {variant.name} ({error})")
    return lanes


def server_lanes(client: Client, asked: ServerFlags, compared: list[Variant]) -> list[AnyLane]:
    """The variants on one server."""
    from illava_cli.evals.lanes import ServerLane

    return [ServerLane(variant, client, asked.concurrency) for variant in compared]


def about_model(session: Session) -> dict[str, Any]:
    """What a report says of the model; of a folder only its name."""
    from illava_cli.bench.lab import reported_name

    text = session.describe()
    named = {name: text[name] for name in ("family", "device", "dtype", "attn")}
    return {"id": reported_name(text["model"]), **named}


def ask(
    lanes: Sequence[AnyLane],
    questions: list[Question],
    results: Results,
    batch_size: int,
    survivors: bool,
    messages: Messages,
) -> dict[str, Any]:
    """Ask all questions; the figures of the report.

    Raises:
        Stopped: by a signal, while the answers are kept nowhere else.
        KeyboardInterrupt, Terminated: by a signal, and nothing is lost.
    """
    from illava_cli.evals.report import summary
    from illava_cli.evals.runner import Asked, Runner

    asked: list[Asked] = []
    results.declare([lane.variant for lane in lanes])
    try:
        with Interrupts() as interrupts, _progress(len(questions), messages) as advance:
            runner = Runner(lanes, results, batch_size, trace=survivors, cancel=interrupts.stop)
            for batch in runner.run(questions):
                asked += batch
                advance(len(batch))
    except (KeyboardInterrupt, Terminated) as ending:
        if results.path is not None:
            messages.say(f"illava: stopped; the answers so far are in {results.path}: run again to go on")
        elif asked:
            messages.say(f"illava: stopped after {len(asked)} of {len(questions)} questions")
            raise Stopped(summary(lanes, asked, results), ending) from None
        raise
    finally:
        results.close()
    return summary(lanes, asked, results)


@contextmanager
def _progress(total: int, messages: Messages) -> Iterator[Callable[[int], None]]:
    """A bar for a person who waits: on a terminal only."""
    if messages.quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), "questions", TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("questions", total=total)
        yield lambda count: bar.advance(task, count)


def tell_failures(failed: list[dict[str, Any]], questions: int, messages: Messages) -> None:
    """The first questions that failed and why.

    Raises:
        typer.Exit: there are some.
    """
    for failure in failed[:SHOWN]:
        messages.show(f"illava: {failure['id']}: {failure['error']['message']}")
    if failed:
        messages.show(f"illava: {len(failed)} of {questions} questions failed")
        raise typer.Exit(FAILED)
