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
    tell_failures,
)
from illava_cli.cli.loading import load
from illava_cli.cli.messages import Messages
from illava_cli.cli.options import Format, ModelFlags, check_format, with_model_flags
from illava_cli.cli.output import check_targets, emit, write_file
from illava_cli.cli.render import table
from illava_cli.errors import Cancelled, OutputError, UsageError
from illava_cli.interrupts import Interrupts, Terminated
from illava_cli.text import json_text

if TYPE_CHECKING:
    from illava_cli.config.settings import Config
    from illava_cli.engine.session import Session
    from illava_cli.tuning.questions import Part
    from illava_cli.tuning.report import Done
    from illava_cli.tuning.search import Progress


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
            "--answers",
            metavar="FILE",
            help="Each answer (JSONL), from which a rerun goes on (beside the preset).",
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
    answers = answers or output.with_suffix(".answers.jsonl")
    check_targets((output, save, markdown, answers), plot)
    if output.suffix not in (".yaml", ".yml"):
        raise UsageError(f"-o {output}: a preset is a YAML file: name one that ends in .yaml")
    from illava_cli.evals.taskfile import WORLD
    from illava_cli.tuning.questions import parts
    from illava_cli.tuning.target import ACCURACY, Target

    wanted = Target.parse(target)
    resolve = resolver(flags)
    plain = _plain(resolve)
    seed, sources = plain.generation.seed, tasks or ([] if images else [WORLD])
    asked = parts(sources, images or [], questions, limit, seed, messages.note)
    if wanted.figure == ACCURACY and not all(part.marked for part in asked.values()):
        raise UsageError(f"--target {target}: some questions have no right answer: use agreement=98%")
    from illava_cli.evals.results import Results

    results = Results(answers)
    session = load(plain, messages)
    _leave_out(asked, session, messages)
    from illava_cli.tuning.search import Search

    done: list[Done] = []
    with Interrupts() as interrupts, _progress(messages) as progress:
        about = {"batch_size": batch_size, "seed": seed, "cancel": interrupts.stop, "progress": progress}
        searches = {
            kind: Search(session, kind, resolve, wanted, results, marked=part.marked, **about)
            for kind, part in asked.items()
        }
        try:
            for kind, search in searches.items():  # what cannot be searched is said before anything is asked
                search.gather(schedules, asked[kind].search)
            for kind, search in searches.items():
                found = search.run(asked[kind].search)
                done.append((search, search.check(found, asked[kind].check), found[0]))
        except (KeyboardInterrupt, Terminated, Cancelled):
            if answers.exists():
                messages.say(f"illava: stopped; the answers so far are in {answers}: run again to go on")
            raise
        finally:
            results.close()
    from illava_cli.tuning.preset_file import preset
    from illava_cli.tuning.report import report as report_of

    report = report_of(about_model(session), wanted, asked, done, seed)
    write_file(output, preset(session, resolve, report, done))
    _write(report, done, save, markdown, plot, messages, as_json=as_json)
    _check_preset(resolve, session, output, done)
    _tell(report, output, messages)
    failures = [failure for search, _, _ in done for failure in search.failed.values()]
    tell_failures(failures, sum(len(part.all) for part in asked.values()), messages)


def _plain(resolve: Callable[[list[str]], Config]) -> Config:
    """The unmodified model's configuration.

    Raises:
        UsageError: a setting of the schedule, which is what is searched, or a temperature.
    """
    from illava_cli.config.presets import OVERRIDES
    from illava_cli.evals.variants import OFF, Variant, only_greedy

    plain = resolve(["preset=off"])
    if given := sorted(plain.model_fields_set & set(OVERRIDES)):
        raise UsageError(f"{given[0]}: the schedule is what illava tune searches: leave this setting out")
    only_greedy([Variant(OFF, plain)])
    return plain


def _leave_out(asked: dict[str, Part], session: Session, messages: Messages) -> None:
    """Questions about a kind of medium that the model does not take.

    Raises:
        UsageError: none are left.
    """
    for kind in [kind for kind in asked if kind not in session.family.markers]:
        count = len(asked.pop(kind).all)
        messages.note(f"left out: {count} questions about {kind}s, which this model does not take")
    if not asked:
        raise UsageError("no questions are left: this model takes none of the media they are about")


class _Lines:
    """A line for each round, where there is no terminal."""

    def __init__(self, messages: Messages):
        self._messages = messages
        self._said: set[str] = set()

    def __call__(self, told: str, done: int, total: int) -> None:
        if told not in self._said:
            self._said.add(told)
            self._messages.say(f"illava: {told}")

    def note(self, line: str) -> None:
        self._messages.say(f"illava: {line}")


@contextmanager
def _progress(messages: Messages) -> Iterator[Progress]:
    """What goes on: a bar under the frontiers so far, on a terminal; elsewhere lines."""
    if messages.quiet or sys.stderr is None or not sys.stderr.isatty():
        yield _Lines(messages)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (BarColumn(bar_width=20), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=1)

        class Bar(_Lines):
            def __call__(self, told: str, done: int, total: int) -> None:
                bars.update(task, description=told, completed=done, total=total)

        yield Bar(messages)


def _check_preset(
    resolve: Callable[[list[str]], Config], session: Session, path: Path, done: list[Done]
) -> None:
    """The file is the schedule that was measured."""
    from illava_cli.config.presets import load_preset

    load_preset.cache_clear()  # it may have had another one of this name
    written = session.under(resolve([f"preset={json_text(str(path))}"]))
    for search, _, chosen in done:
        if written.schedules[search.kind] != chosen.lane.session.schedules[search.kind]:
            raise OutputError(f"{path} does not hold the schedule for {search.kind}s that was found")


def _write(
    report: dict[str, Any],
    done: list[Done],
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


def _missed(report: dict[str, Any], found: dict[str, Any]) -> str:
    chosen = next(one for one in found["finalists"] if one["chosen"])
    if report["target"].startswith("speed") and chosen["measured"] is not None:
        return f"by the clock: {chosen['speed']:.2f}x fewer operations are {chosen['measured']:.2f}x here"
    return "in the check: the nearest schedule was taken"


def _tell(report: dict[str, Any], output: Path, messages: Messages) -> None:
    """Where the preset is, and what it does not hold."""
    for kind, found in report["kinds"].items():
        if not found["kept"]:
            messages.show(f"illava: {report['target']} is not kept for {kind}s {_missed(report, found)}")
    messages.show(f"illava: wrote {output}: use --preset {output}")
