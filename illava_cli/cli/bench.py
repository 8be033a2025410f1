"""`illava bench`: how fast, beside the unmodified model and the bound, and where the time goes.

The table goes to stderr; `--format json` writes the report to stdout, `--save` to a file.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from illava_cli.cli.bench_serve import bench_serve
from illava_cli.cli.loading import load
from illava_cli.cli.messages import Messages
from illava_cli.cli.options import Format, Images, ModelFlags, Videos, check_format, with_model_flags
from illava_cli.cli.output import check_targets, emit, write_file
from illava_cli.cli.question import Question
from illava_cli.cli.render import table
from illava_cli.errors import ModelError, UsageError
from illava_cli.text import json_text

if TYPE_CHECKING:
    from illava_cli.bench.lab import Lab
    from illava_cli.bench.media import Medium
    from illava_cli.config.options import MediaOptions
    from illava_cli.config.settings import Config
    from illava_cli.models.family import Family

SMALL, LARGE = "random:llava-onevision-0.5b", "random:llava-onevision-7b"  # the defaults on CPU and CUDA
ROUNDS, SECONDS, RIVAL_ROUNDS = 3, 48.0, 15
GREEDY = ("preset", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "system")

app = typer.Typer(rich_markup_mode=None, add_completion=False)
app.command("serve")(bench_serve)


@app.callback(invoke_without_command=True)
@with_model_flags(without=GREEDY)
def bench(
    context: typer.Context,
    preset: Annotated[
        list[str] | None,
        typer.Option("--preset", metavar="NAME", help="Merging schedule; repeats (default: one and off)."),
    ] = None,
    image: Images = None,
    video: Videos = None,
    tiles: Annotated[
        list[int] | None, typer.Option("--tiles", metavar="N", help="Synthetic image of N tiles; repeats.")
    ] = None,
    frames: Annotated[
        list[int] | None, typer.Option("--frames", metavar="N", help="Synthetic video; repeats.")
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option("--batch-size", metavar="N", help="Requests at once; repeats.")
    ] = None,
    new_tokens: Annotated[
        int, typer.Option("--new-tokens", metavar="N", min=1, help="Tokens of each answer.")
    ] = 8,
    repeats: Annotated[
        int | None,
        typer.Option("--repeats", metavar="N", min=1, help="Rounds; default: 3 or less in 48 s."),
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="CPU threads.")] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Break one request into its parts instead.")
    ] = False,
    tower: Annotated[bool, typer.Option("--tower", help="Measure the vision part alone instead.")] = False,
    rivals: Annotated[
        bool, typer.Option("--rivals", help="Measure one layer under other methods instead.")
    ] = False,
    tokens: Annotated[
        int | None, typer.Option("--tokens", metavar="N", min=2, help="With --rivals: visual tokens.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="With --tower or --profile: draw it.")
    ] = None,
    format: Format = "text",
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Write the JSON report to FILE.")
    ] = None,
    *,
    flags: ModelFlags,
) -> None:
    """Measure speed and memory beside unmodified transformers.

    By default one synthetic tile, the presets paper and off, and 8 new tokens.
    """
    if context.invoked_subcommand is not None:
        _refuse_flags_before(context)
        return
    started = time.perf_counter()
    as_json = check_format(format) == "json"
    _refuse_numbers_below_one({"--tiles": tiles, "--frames": frames, "--batch-size": batch_size})
    _refuse_contradictions(
        modes=profile + tower + rivals,
        rivals=rivals,
        real=bool(image or video),
        synthetic=bool(tiles or frames),
        presets=bool(preset),
        batches=batch_size or [],
    )
    if tokens is not None and not rivals:
        raise UsageError("--tokens is for the decoder layer of --rivals: give both")
    if plot is not None and not (tower or profile):
        raise UsageError("--plot draws what --tower or --profile measures: give one of them")
    check_targets((save,), plot)
    messages = Messages(flags.quiet)
    import torch

    from illava_cli.media import expand_sources

    if threads is not None:
        torch.set_num_threads(threads)
    files = expand_sources(image or []), expand_sources(video or [])
    flags = _with_model(flags)
    progress = _progress(messages)
    report: dict[str, Any] = {"settings": {"new_tokens": new_tokens, "repeats": repeats or ROUNDS}}
    if rivals:
        report["settings"] = {"repeats": repeats or RIVAL_ROUNDS}
        try:
            report |= _rivals(flags.config(), repeats or RIVAL_ROUNDS, tokens, progress)
        except torch.OutOfMemoryError:
            raise ModelError("out of memory: use fewer --tokens or --dtype bfloat16") from None
    else:
        from illava_cli.bench.lab import Plan

        deadline = started + SECONDS if repeats is None else None
        plan = Plan(new_tokens, repeats or ROUNDS, deadline)
        lab = _lab(flags, preset or [], messages)
        media = _media(lab.family, flags.config().media, files, (tiles, frames))
        report["model"] = lab.describe()
        try:
            report |= _measure(lab, media, batch_size or [1], plan, progress, profile=profile, tower=tower)
        except torch.OutOfMemoryError:
            raise ModelError("out of memory: use smaller batches, fewer frames or --dtype bfloat16") from None
    _finish(report, messages, as_json=as_json, save=save, plot=plot)


def _refuse_flags_before(context: typer.Context) -> None:
    """Refuse flags of this command where another one follows, which would not see them."""
    name = context.invoked_subcommand
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"{parameter.opts[-1]} stands before {name}: write it after it")


def _refuse_numbers_below_one(options: dict[str, list[int] | None]) -> None:
    for name, values in options.items():
        if any(value < 1 for value in values or []):
            raise UsageError(f"{name}: must be 1 or more")


def _refuse_contradictions(
    *, modes: int, rivals: bool, real: bool, synthetic: bool, presets: bool, batches: list[int]
) -> None:
    """Refuse flags that do not go together, before anything is loaded."""
    if modes > 1:
        raise UsageError("--profile, --tower and --rivals are measurements of their own: give one of them")
    if modes and batches:
        raise UsageError("--batch-size is for whole requests: leave it out with --profile, --tower, --rivals")
    if real and synthetic:
        raise UsageError("--image and --video are real media, --tiles and --frames synthetic: give one kind")
    if real and batches and max(batches) > 1:
        raise UsageError("--batch-size needs synthetic media: of a picture's copies only one is encoded")
    if rivals and (real or synthetic or presets):
        raise UsageError("--rivals measures single layers: it takes no media and no preset")


def _with_model(flags: ModelFlags) -> ModelFlags:
    """The flags with a model: the one named, else the default of the device."""
    from illava_cli.models.loading import pick_device

    named = flags.model or os.environ.get("ILLAVA_MODEL")
    if not named:
        device = pick_device(replace(flags, model=SMALL).config().model.device)
        named = LARGE if device.type == "cuda" else SMALL
    return replace(flags, model=named)


def _lab(flags: ModelFlags, presets: list[str], messages: Messages) -> Lab:
    """The model, loaded, with a session for each preset; the default presets depend on its family."""
    configs = _configs(flags, presets or ["off"])
    config = next(iter(configs.values()))
    session = load(config, messages)
    from illava_cli.bench.lab import Lab

    if not presets:
        configs = _configs(flags, [session.family.schedule_shape.own_preset, "off"])
    return Lab(session, configs)


def _configs(flags: ModelFlags, presets: list[str]) -> dict[str, Config]:
    """A configuration for each preset; a preset file is reported by its name, not by where it lies."""
    from illava_cli.config.presets import preset_label

    return {preset_label(name): replace(flags, preset=name).config() for name in presets}


def _media(
    family: Family,
    options: MediaOptions,
    files: tuple[list[str], list[str]],
    synthetic: tuple[list[int] | None, list[int] | None],
) -> list[Medium]:
    """What is asked about: the files in one request, or each synthetic medium in its own."""
    from illava_cli.bench.media import real, synthetic_image, synthetic_video

    if any(files):
        held = Question("", *files).held(options.media_timeout)  # it is read again and again
        return [real(held.images, held.videos, options)]
    tiles, frames = synthetic
    if not tiles and not frames:
        tiles = [1]
    pictures = [synthetic_image(n, family, options) for n in tiles or []]
    return pictures + [synthetic_video(n, options) for n in frames or []]


def _measure(
    lab: Lab,
    media: list[Medium],
    batches: list[int],
    plan: Any,
    progress: Callable[[str], None],
    *,
    profile: bool,
    tower: bool,
) -> dict[str, Any]:
    """The section of the report that was asked for."""
    if profile:
        from illava_cli.bench.profiling import profile as profile_request

        return {"profile": profile_request(lab, media, plan, progress)}
    if tower:
        from illava_cli.bench.tower import measure_tower

        return {"tower": measure_tower(lab, media, plan, progress)}
    from illava_cli.bench.compare import batching, compare

    results = compare(lab, media, batches, plan, progress)
    return {"results": results, "batching": batching(results)}


def _rivals(
    config: Config, rounds: int, tokens: int | None, progress: Callable[[str], None]
) -> dict[str, Any]:
    from illava_cli.bench.lab import reported_name
    from illava_cli.bench.rivals import measure_rivals
    from illava_cli.models import family_class
    from illava_cli.models.catalog import model_config
    from illava_cli.models.loading import pick_device, pick_dtype

    raw = model_config(config)
    if raw["model_type"] != "llava_onevision":
        raise UsageError("--rivals measures LLaVA-OneVision's layers: name such a model")
    model_class = family_class("llava_onevision", config.model.id).stock_class
    device = pick_device(config.model.device)
    dtype = pick_dtype(config.model.dtype, device)
    shapes = model_class.config_class(**{name: value for name, value in raw.items() if name != "model_type"})
    model = {
        "id": reported_name(config.model.id),
        "family": "llava_onevision",
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "attn": "sdpa",
    }
    return {"model": model, "rivals": measure_rivals(shapes, device, dtype, rounds, progress, tokens)}


def _progress(messages: Messages) -> Callable[[str], None]:
    """A line for each step, for a person who waits: on a terminal only."""
    if messages.quiet or sys.stderr is None or not sys.stderr.isatty():
        return lambda text: None
    return messages.say


def _finish(
    report: dict[str, Any], messages: Messages, *, as_json: bool, save: Path | None, plot: Path | None
) -> None:
    """The report to where it was asked for."""
    from illava_cli.bench.machine import describe
    from illava_cli.bench.text import headline, tables

    report["machine"] = describe()
    text = json_text(report) + "\n"
    if save is not None:
        write_file(save, text)
    if plot is not None:
        from illava_cli.bench.plot import plot_profile, plot_tower

        if "tower" in report:
            plot_tower(report["tower"], headline(report), plot)
        else:
            plot_profile(report["profile"], headline(report), plot)
    if as_json:
        emit(text)
    for result in report.get("results", []):
        if result["left_out"]:
            names = ", ".join(result["left_out"])
            messages.note(f"no time for {names} within {SECONDS:g} s: give --repeats to measure all")
    show = messages.say if as_json else messages.show
    show(headline(report))
    for header, rows in tables(report):
        show("\n" + table(header, rows))
