"""`illava tune`: the schedule that trades best on the user's own pictures, as a preset file.

The tables go to stderr; `--format json` writes the report to stdout, `--save`, `--markdown` and `--plot` to
files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from illava_cli.cli.asking import (
    BatchSize,
    Limit,
    Markdown,
    Questions,
    Save,
    Tasks,
    about_model,
    resolver,
)
from illava_cli.cli.loading import load
from illava_cli.cli.messages import Messages
from illava_cli.cli.options import Format, ModelFlags, check_format, with_model_flags
from illava_cli.cli.output import check_targets, emit, write_file
from illava_cli.cli.render import table
from illava_cli.errors import Cancelled, UsageError
from illava_cli.interrupts import Interrupts, Terminated
from illava_cli.text import json_text

if TYPE_CHECKING:
    from illava_cli.engine.session import Session
    from illava_cli.evals.results import Results
    from illava_cli.tuning.search import Search, Tried
    from illava_cli.tuning.target import Target


@with_model_flags(without=("preset", "method", "temperature", "top_p", "top_k", "min_p"))
def tune(
    target: Annotated[
        str, typer.Option("--target", metavar="T", help="speed=2x, agreement=98% or accuracy=-0.5 (points).")
    ] = "agreement=98%",
    tasks: Tasks = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images",
            metavar="PATH",
            help="Ask a few general questions about these files or folders; repeats.",
        ),
    ] = None,
    questions: Questions = 600,
    limit: Limit = None,
    schedules: Annotated[
        int,
        typer.Option(
            "--schedules", metavar="N", min=4, help="Schedules to begin with, for each kind of medium."
        ),
    ] = 48,
    batch_size: BatchSize = 16,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The preset that was found (YAML).")
    ] = Path("tuned.yaml"),
    answers: Annotated[
        Path | None,
        typer.Option(
            "--answers", metavar="FILE", help="Keep each answer (JSONL); a rerun goes on from there."
        ),
    ] = None,
    format: Format = "text",
    save: Save = None,
    markdown: Markdown = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw what was tried.")] = None,
    *,
    flags: ModelFlags,
) -> None:
    """Search the merging schedule that serves your own pictures best.

    Many schedules are asked few questions and the better ones more: speed comes
    from counted operations, quality from the unmodified model's own answers, or
    from yours where a task file has them. Images and videos get a schedule each.
    The last ones are asked questions that the search did not see, and timed. The
    preset that is written runs with --preset FILE.
    """
    as_json = check_format(format) == "json"
    messages = Messages(flags.quiet)
    check_targets((output, save, markdown, answers), plot)
    if output.suffix not in (".yaml", ".yml"):
        raise UsageError(f"-o {output}: a preset is a YAML file: name one that ends in .yaml")
    from illava_cli.evals.taskfile import WORLD
    from illava_cli.tuning.questions import parts
    from illava_cli.tuning.target import ACCURACY, Target

    wanted = Target.parse(target)
    resolve = resolver(flags)
    plain = resolve(["preset=off"])
    seed = plain.generation.seed
    asked = parts(tasks or ([] if images else [WORLD]), images or [], questions, limit, seed)
    if wanted.figure == ACCURACY and any(one.answer is None for part in asked.values() for one in part.all):
        raise UsageError(f"--target {target}: some questions have no right answer: use agreement=98%")
    from illava_cli.evals.results import Results

    results = Results(answers)
    session = load(plain, messages)
    done: list[tuple[Search, list[Tried], Tried]] = []
    with Interrupts() as interrupts, _progress(messages) as show:
        try:
            for kind, part in asked.items():
                search = _search(
                    session,
                    kind,
                    resolve,
                    wanted,
                    results,
                    batch_size,
                    plain.generation.seed,
                    interrupts,
                    show,
                )
                search.gather(schedules, part.search)
                found = search.run(part.search)
                done.append((search, search.check(found, part.check), found[0]))
        except (KeyboardInterrupt, Terminated, Cancelled):
            if answers is not None:
                messages.say(f"illava: stopped; the answers so far are in {answers}: run again to go on")
            raise
        finally:
            results.close()
    from illava_cli.tuning.preset_file import preset
    from illava_cli.tuning.report import report as report_of

    report = report_of(about_model(session), wanted, asked, done, seed)
    write_file(output, preset(session, resolve, report, done))
    _check_preset(resolve, session, output)
    _write(report, done, save, markdown, plot, messages, as_json=as_json)
    _tell(report, output, messages)


def _search(
    session: Session,
    kind: str,
    resolve: Callable[[list[str]], Any],
    target: Target,
    results: Results,
    batch_size: int,
    seed: int,
    interrupts: Interrupts,
    show: Callable[[str, int, int], None],
) -> Search:
    from illava_cli.tuning.search import Search

    return Search(
        session,
        kind,
        resolve,
        target,
        results,
        batch_size=batch_size,
        seed=seed,
        cancel=interrupts.stop,
        progress=show,
    )


@contextmanager
def _progress(messages: Messages) -> Iterator[Callable[[str, int, int], None]]:
    """A bar with what is going on, on a terminal only; elsewhere a line for each round."""
    if messages.quiet or sys.stderr is None or not sys.stderr.isatty():
        said: set[str] = set()

        def say(told: str, done: int, total: int) -> None:
            if "counting" not in told and told not in said:
                said.add(told)
                messages.say(f"illava: {told}")

        yield say
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(bar_width=20), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1)
        yield lambda told, done, total: bar.update(task, description=told, completed=done, total=total)


def _check_preset(resolve: Callable[[list[str]], Any], session: Session, path: Path) -> None:
    """The file runs: a preset that cannot be read would be found out too late."""
    from illava_cli.config.presets import load_preset

    load_preset.cache_clear()  # it may have had another one of this name
    session.under(resolve([f"preset={path}"]))


def _write(
    report: dict[str, Any],
    done: list[tuple[Search, list[Tried], Tried]],
    save: Path | None,
    markdown: Path | None,
    plot: Path | None,
    messages: Messages,
    *,
    as_json: bool,
) -> None:
    from illava_cli.bench.text import headline
    from illava_cli.tuning import report as words

    text = json_text(report) + "\n"
    if save is not None:
        write_file(save, text)
    if markdown is not None:
        write_file(markdown, words.markdown(report, headline(report)))
    if plot is not None:
        title = f"{report['model']['id']}, {report['target']}"
        words.plot(done, title, plot)
    if as_json:
        emit(text)
    show = messages.say if as_json else messages.show
    show(headline(report))
    for kind, found in report["kinds"].items():
        show("\n" + table(*words.table(found["finalists"], kind, found["check_questions"])))
    show("\n" + words.NOTE)


def _tell(report: dict[str, Any], output: Path, messages: Messages) -> None:
    """Where the preset is, and what it does not hold."""
    for kind, found in report["kinds"].items():
        if not found["kept"]:
            messages.show(
                f"illava: no schedule for {kind}s keeps {report['target']}: the nearest one was taken"
            )
    messages.show(f"illava: wrote {output}: use --preset {output}")
