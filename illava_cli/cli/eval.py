"""`illava eval`: what merging costs in accuracy, on the built-in questions or on your own.

The table goes to stderr; `--format json` writes the report to stdout, `--save` and `--markdown` to files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    server_lanes,
    tell_failures,
)
from illava_cli.cli.loading import load
from illava_cli.cli.messages import Messages
from illava_cli.cli.options import Format, ModelFlags, check_format, with_model_flags
from illava_cli.cli.output import check_targets, emit, write_file
from illava_cli.cli.render import table
from illava_cli.cli.server import Concurrency, ServerFlags, ServerKey, ServerModel, ServerUrl
from illava_cli.errors import UsageError
from illava_cli.text import json_text

if TYPE_CHECKING:
    from illava_cli.config.settings import Config
    from illava_cli.engine.session import Session
    from illava_cli.evals.lanes import Lane
    from illava_cli.evals.sweep import Grid, Point


@dataclass(frozen=True)
class Targets:
    """Where results go beside stdout; None: nowhere."""

    output: Path | None
    save: Path | None
    markdown: Path | None
    plot: Path | None


@with_model_flags(without=("preset", "method", "temperature", "top_p", "top_k", "min_p"))
def evaluate(
    tasks: Tasks = None,
    questions: Questions = 500,
    split: Split = "heldout",
    limit: Limit = None,
    preset: Annotated[
        list[str] | None,
        typer.Option("--preset", metavar="NAME", help="Merging schedule to compare with off; repeats."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", metavar="NAME", help="Method for the presets' merge points; repeats."),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="'NAME: K=V K=V'",
            help="Settings to compare under a name, e.g. 'half: preset=paper llm.keep=0.5'; repeats.",
        ),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="NAME", help="Variants of an experiment: table-5, or a YAML file."),
    ] = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="Ask without the media too: what is guessed.")
    ] = False,
    survivors: Annotated[
        bool,
        typer.Option("--survivors", help="Also where the LLM's survivors lie; one question at a time."),
    ] = False,
    batch_size: BatchSize = 16,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Walk over shares kept and layers instead of variants.")
    ] = False,
    vision_keep: Annotated[
        list[str] | None,
        typer.Option("--vision-keep", metavar="X", help="Share that the tower keeps (sweep); repeats."),
    ] = None,
    vision_layers: Annotated[
        list[str] | None,
        typer.Option("--vision-layers", metavar="L,L", help="Tower layers, 2,3,4 or 2-4 (sweep); repeats."),
    ] = None,
    llm_keep: Annotated[
        list[str] | None,
        typer.Option("--llm-keep", metavar="X", help="Share that the LLM keeps (sweep); repeats."),
    ] = None,
    llm_layers: Annotated[
        list[str] | None,
        typer.Option("--llm-layers", metavar="L,L", help="LLM layers that merge (sweep); repeats."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Append each answer (JSONL); a rerun goes on."),
    ] = None,
    format: Format = "text",
    save: Save = None,
    markdown: Markdown = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="With --sweep: draw what it costs.")
    ] = None,
    server: ServerUrl = None,
    server_key: ServerKey = None,
    server_model: ServerModel = None,
    concurrency: Concurrency = None,
    *,
    flags: ModelFlags,
) -> None:
    """Measure what merging costs, on built-in or your own questions.

    A task file has one JSON object a line: image or video (a path, or a list of
    them), prompt, and answer, with choices if there are some. Every variant is
    compared with off, question by question. Answers end after 32 tokens unless
    --max-tokens says otherwise; exit 3 where questions failed. With --server the
    questions go to a server, and the first variant is the one to compare with.
    """
    as_json = check_format(format) == "json"
    targets = Targets(output, save, markdown, plot)
    grid_flags = (vision_keep, vision_layers, llm_keep, llm_layers)
    _refuse_contradictions(
        sweep=sweep,
        grid=any(grid_flags),
        variants=bool(variant or method or plan),
        presets=len(preset or []),
        plot=bool(plot),
    )
    asked = ServerFlags.of(server, server_key, server_model, concurrency)
    if asked is not None and (sweep or plan or survivors):
        raise UsageError("--sweep, --plan and --survivors look into a model: leave them out with --server")
    check_targets((output, save, markdown), plot)
    messages = Messages(flags.quiet)
    from illava_cli.evals.taskfile import WORLD, limited
    from illava_cli.evals.taskfile import questions as read_questions
    from illava_cli.evals.variants import of_a_server, variants

    if sweep:  # it walks on from one preset
        flags = replace(flags, preset=preset[0] if preset else None)
        preset = ["off"]
    grid = _grid(*grid_flags)
    if asked is not None:
        asked = asked.named(flags)
        batch_size = asked.concurrency
    resolve = resolver(flags, asked)
    plain = resolve([])
    seed = plain.generation.seed
    asking = read_questions(tasks or [WORLD], questions, split, plain.media.num_frames)
    chosen = limited(asking, limit, seed)
    named = [*(variant or []), *(_planned(plan, plain) if plan else [])]
    found = variants if asked is None else of_a_server
    compared = found(resolve, preset or [], named, blind, method or [])
    from illava_cli.evals.results import Results  # brings torch: mistakes in the flags are told before

    results = Results(output)
    results.check(compared)
    walked: dict[str, Point] = {}
    skipped: dict[str, str] = {}
    client = None
    if asked is not None:
        client = asked.client()
        lanes = server_lanes(client, asked, compared)
        model = {"id": asked.model, "server": client.server.url}
    else:
        session = load(compared[0].config, messages)
        lanes, model = lanes_of(session, compared), about_model(session)
    if sweep:
        lanes += _walk(session, grid, flags, walked, skipped)
        for name, why in skipped.items():
            messages.note(f"left out: {name} ({why})")
    settings = {
        "tasks": [Path(source).name for source in tasks or [WORLD]],
        "split": split,
        "limit": limit,
        "seed": seed,
        "batch_size": 1 if survivors else batch_size,
        "max_tokens": plain.generation.max_tokens,
    }
    report = {"settings": settings, "model": model}
    ending = None
    try:
        report |= ask(lanes, chosen, results, batch_size, survivors, messages)
    except Stopped as stop:
        ending = stop.ending
        report |= stop.figures
    finally:
        if client is not None:
            client.close()
    if sweep:
        from illava_cli.evals.sweep import frontier

        report["sweep"] = frontier(report, walked, skipped)
    _write(report, targets, messages, as_json=as_json)
    if ending is not None:
        raise ending
    tell_failures(report["failed"], report["all"]["questions"], messages)


def _refuse_contradictions(*, sweep: bool, grid: bool, variants: bool, presets: int, plot: bool) -> None:
    """Refuse flags that do not go together, before anything is loaded."""
    if grid and not sweep:
        raise UsageError(
            "--vision-keep, --vision-layers, --llm-keep and --llm-layers are for --sweep: add it"
        )
    if sweep and (variants or presets > 1):
        raise UsageError(
            "--sweep makes its own variants: leave out --variant, --method and --plan; one --preset at most"
        )
    if plot and not sweep:
        raise UsageError("--plot draws what --sweep measures: give both")


def _planned(name: str, config: Config) -> list[str]:
    """The variants of a plan for the model of a run."""
    from illava_cli.evals.plan import load_plan
    from illava_cli.models.sizes import schedule_key

    return load_plan(name).named_variants(schedule_key(config), name)


def _grid(vision_keep, vision_layers, llm_keep, llm_layers) -> Grid:
    from illava_cli.evals.sweep import Grid, read_layers, read_share

    return Grid(
        vision_keep=[read_share(text, "--vision-keep") for text in vision_keep or []],
        vision_layers=[read_layers(text, "--vision-layers") for text in vision_layers or []],
        llm_keep=[read_share(text, "--llm-keep") for text in llm_keep or []],
        llm_layers=[read_layers(text, "--llm-layers") for text in llm_layers or []],
    )


def _walk(
    session: Session, grid: Grid, flags: ModelFlags, walked: dict[str, Point], skipped: dict[str, str]
) -> list[Lane]:
    """The schedules of a grid that this model can run; fills in which they are, and why others are not."""
    from illava_cli.evals.lanes import Lane
    from illava_cli.evals.sweep import points
    from illava_cli.evals.variants import Variant

    resolve, family = resolver(flags), session.family
    key = family.schedule_key
    base = resolve([]).reduction_for(key)
    lanes = []
    for point in points(grid, family, base):
        config = resolve(point.settings(family, base.layout))
        try:
            lanes.append(Lane(Variant(point.name, config), session.under(config)))
            walked[point.name] = point
        except UsageError as error:
            skipped[point.name] = str(error)
    if not lanes:
        raise UsageError(f"the model refuses all schedules of the sweep: {next(iter(skipped.values()), '')}")
    return lanes


def _write(report: dict[str, Any], targets: Targets, messages: Messages, *, as_json: bool) -> None:
    """The report to where it was asked for."""
    from illava_cli.bench.machine import describe
    from illava_cli.bench.text import headline
    from illava_cli.evals import report as words

    report["machine"] = describe()
    text = json_text(report) + "\n"
    if targets.save is not None:
        write_file(targets.save, text)
    if targets.markdown is not None:
        write_file(targets.markdown, words.markdown(report, headline(report)))
    if targets.plot is not None:
        from illava_cli.evals.plot import plot_frontier

        plot_frontier(report, targets.plot)
    if as_json:
        emit(text)
    show = messages.say if as_json else messages.show
    show(headline(report))
    for header, rows in words.tables(report):
        show("\n" + table(header, rows))
    show("\n" + words.notes(report))
