"""`illava compare`: models, methods and budgets on the same questions, side by side.

The table goes to stderr; `--format json` writes the report to stdout, `--save`, `--markdown` and `--plot`
to files.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from illava_cli.cli.asking import (
    BatchSize,
    Limit,
    Markdown,
    Questions,
    Save,
    Split,
    Stopped,
    Tasks,
    about_model,
    ask,
    lanes_of,
    resolver,
    tell_failures,
)
from illava_cli.cli.loading import load
from illava_cli.cli.messages import Messages
from illava_cli.cli.options import Format, ModelFlags, check_format, with_model_flags
from illava_cli.cli.output import check_targets, emit, make_folder, write_file
from illava_cli.cli.render import table
from illava_cli.errors import IllavaError, UsageError
from illava_cli.interrupts import Terminated
from illava_cli.text import json_text

if TYPE_CHECKING:
    from illava_cli.cli.asking import Resolve
    from illava_cli.engine.session import Session
    from illava_cli.evals.plan import Plan
    from illava_cli.evals.variants import Variant

METHODS = ("illava", "attention-prune", "random")
KEEP = ("1/3",)


@with_model_flags(without=("model", "preset", "method", "temperature", "top_p", "top_k", "min_p"))
def compare(
    model: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", metavar="NAME", help="As in illava run; repeats, one after the other."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", metavar="NAME", help=f"Repeats (default: {', '.join(METHODS)})."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="X", help="Share of visual tokens that remains; repeats (1/3)."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="Whose layers, layout and positions (auto)."),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(
            "--plan", metavar="NAME", help="An experiment: figure-5, or a YAML file; flags go first."
        ),
    ] = None,
    tasks: Tasks = None,
    questions: Questions = 500,
    split: Split = "heldout",
    limit: Limit = None,
    batch_size: BatchSize = 16,
    answers: Annotated[
        Path | None,
        typer.Option("--answers", metavar="DIR", help="Keep each model's answers there; a rerun goes on."),
    ] = None,
    format: Format = "text",
    save: Save = None,
    markdown: Markdown = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw quality over tokens and time.")
    ] = None,
    *,
    flags: ModelFlags,
) -> None:
    """Compare methods and models at equal shares of visual tokens.

    Every model answers the same questions whole, and under every method at every
    --keep; the table says what each really kept. Exit 3 where questions failed.
    """
    as_json = check_format(format) == "json"
    check_targets((save, markdown), plot)
    messages = Messages(flags.quiet)
    from illava_cli.evals.plan import Plan
    from illava_cli.evals.sweep import read_share
    from illava_cli.evals.taskfile import WORLD, limited
    from illava_cli.evals.taskfile import questions as read_questions
    from illava_cli.evals.variants import unmerged

    planned = _planned(plan) if plan else Plan()
    preset = preset or planned.preset
    methods = list(dict.fromkeys(method or planned.methods or METHODS))
    # two ways to write one share are one
    shares = {read_share(text, "--keep"): text for text in keep or planned.keep or KEEP}
    models = list(dict.fromkeys(model or planned.models or [None]))
    resolvers = [resolver(replace(flags, model=name, preset=preset)) for name in models]
    plain, *_ = [resolve([]) for resolve in resolvers]  # every model's settings, before any is loaded
    asking = read_questions(tasks or [WORLD], questions, split, plain.media.num_frames)
    chosen = limited(asking, limit, plain.generation.seed)
    if answers is not None:
        make_folder(answers)
    from illava_cli.evals import compare as comparison
    from illava_cli.evals.results import Results

    comparison.check(methods)
    reports: list[dict[str, Any]] = []
    asked: dict[str, tuple[str, float]] = {}
    ended: BaseException | None = None
    skip = None if method else messages.show  # a plan runs as far as it can
    for resolve in resolvers:
        try:
            session = load(unmerged(resolve([])), messages)
            compared = _variants(resolve, session, methods, shares, asked)
            # shares are asked for, of small media too
            lanes, about = lanes_of(session, compared, skip=skip, least_tokens=0), about_model(session)
            results = Results(_answers(answers, about["id"], compared[0].config.hash()))
            results.check(compared)
            reports.append({"model": about} | ask(lanes, chosen, results, batch_size, False, messages))
        except Stopped as stop:
            reports.append({"model": about} | stop.figures)
            ended = stop.ending
        except (IllavaError, KeyboardInterrupt, Terminated) as error:
            if not reports:
                raise
            ended = error  # what was answered is not lost
        if ended is not None:
            break
        del session, lanes
        gc.collect()  # the next model takes its place
    whole = {
        "settings": {
            "tasks": [Path(source).name for source in tasks or [WORLD]],
            "split": split,
            "limit": limit,
            "seed": plain.generation.seed,
            "batch_size": batch_size,
            "preset": plain.preset,
        },
        "rows": comparison.rows(reports, asked),
        "models": reports,
    }
    _write(whole, save, markdown, plot, messages, as_json=as_json)
    if ended is not None:
        raise ended
    failures = [failure for report in reports for failure in report["failed"]]
    tell_failures(failures, len(reports) * len(chosen), messages)


def _write(
    report: dict[str, Any],
    save: Path | None,
    markdown: Path | None,
    plot: Path | None,
    messages: Messages,
    *,
    as_json: bool,
) -> None:
    """The report to where it was asked for."""
    from illava_cli.bench.machine import describe
    from illava_cli.bench.text import headline
    from illava_cli.evals import compare as comparison
    from illava_cli.evals.plot import plot_comparison

    report["machine"] = describe()
    about = report["models"][0]["model"] | {"id": ", ".join(m["model"]["id"] for m in report["models"])}
    words = headline({"model": about, "machine": report["machine"]})
    text = json_text(report) + "\n"
    if save is not None:
        write_file(save, text)
    if markdown is not None:
        write_file(markdown, comparison.markdown(report, words))
    if plot is not None:
        plot_comparison(report, plot)
    if as_json:
        emit(text)
    show = messages.say if as_json else messages.show
    show(words)
    for header, lines in comparison.tables(report):
        show("\n" + table(header, lines))


def _planned(name: str) -> Plan:
    """A plan that says which methods to compare."""
    from illava_cli.evals.plan import load_plan

    plan = load_plan(name)
    if not plan.methods:
        raise UsageError(f"--plan {name}: it has variants of one model: use illava eval")
    return plan


def _variants(
    resolve: Resolve,
    session: Session,
    methods: list[str],
    shares: dict[float, str],
    asked: dict[str, tuple[str, float]],
) -> list[Variant]:
    """The whole model, and each method at each share; notes in `asked` which is which."""
    from illava_cli.engine.shares import share_settings
    from illava_cli.evals.variants import OFF, Variant, only_greedy, unmerged

    family = session.family
    plain = resolve([])
    base = plain.reduction_for(family.schedule_key)
    found = [Variant(OFF, unmerged(plain))]
    for method in methods:
        for keep, text in shares.items():
            name = f"{method} {text}"
            found.append(Variant(name, resolve(share_settings(family, base, method, keep))))
            asked[name] = method, keep
    only_greedy(found)
    return found


def _answers(folder: Path | None, model: str, config_hash: str) -> Path | None:
    """The file of a model's answers: two models may have one name, and a run other settings."""
    if folder is None:
        return None
    name = "".join(c if c.isalnum() or c in "-._" else "-" for c in model)
    return folder / f"{name}.{config_hash}.jsonl"
