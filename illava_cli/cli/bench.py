"""`illava bench`: how fast, beside the unmodified model and the bound, and where the time goes.

The table goes to stderr; `--format json` writes the report to stdout, `--save` to a file.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from illava_cli.cli.messages import Messages
from illava_cli.cli.options import Format, Images, ModelFlags, Videos, check_format, with_model_flags
from illava_cli.cli.output import check_target, emit, write_file
from illava_cli.cli.render import table
from illava_cli.errors import UsageError

if TYPE_CHECKING:
    from illava_cli.bench.compare import Lab
    from illava_cli.bench.media import Medium
    from illava_cli.config import Config
    from illava_cli.models.family import Family

SMALL, LARGE = "random:llava-onevision-0.5b", "random:llava-onevision-7b"  # the defaults on CPU and CUDA
ROUNDS, SECONDS, RIVAL_ROUNDS = 3, 48.0, 15
# the merging preset that is measured beside `off` when none is named, by the family's schedule key
PRESETS = {"llava_onevision": "paper", "qwen2_vl": "qwen2-vl", "qwen2_vl_2b": "qwen2-vl-2b"}
GREEDY = ("preset", "max_tokens", "temperature", "top_p", "seed", "stop", "system")


@with_model_flags(without=GREEDY)
def bench(
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
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="With --tower: draw time and memory.")
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
    started = time.perf_counter()
    as_json = check_format(format) == "json"
    if profile + tower + rivals > 1:
        raise UsageError("--profile, --tower and --rivals are measurements of their own: give one of them")
    for name, values in (("--tiles", tiles), ("--frames", frames), ("--batch-size", batch_size)):
        if any(value < 1 for value in values or []):
            raise UsageError(f"{name}: must be 1 or more")
    if batch_size and (profile or tower or rivals):
        raise UsageError("--batch-size is for whole requests: leave it out with --profile, --tower, --rivals")
    if (image or video) and (tiles or frames):
        raise UsageError("--image and --video are real media, --tiles and --frames synthetic: give one kind")
    if (image or video) and batch_size and max(batch_size) > 1:
        raise UsageError("--batch-size needs synthetic media: of a picture's copies only one is encoded")
    if rivals and (image or video or tiles or frames or preset):
        raise UsageError("--rivals measures single layers: it takes no media and no preset")
    if plot is not None and not tower:
        raise UsageError("--plot draws what --tower measures: give both")
    for path in (save, plot):
        if path is not None:
            check_target(path)
    messages = Messages(flags.quiet)
    import torch

    from illava_cli.media import expand_sources

    if threads is not None:
        torch.set_num_threads(threads)
    files = expand_sources(image or []), expand_sources(video or [])
    configs = _configs(flags, preset)
    config = next(iter(configs.values()))
    progress = _progress(messages)
    report: dict[str, Any] = {"settings": {"new_tokens": new_tokens, "repeats": repeats or ROUNDS}}
    if rivals:
        report["settings"] = {"repeats": repeats or RIVAL_ROUNDS}
        report |= _rivals(config, repeats or RIVAL_ROUNDS, progress)
    else:
        from illava_cli.bench.compare import Plan

        if plot is not None:
            from illava_cli.bench.plot import check_plot

            check_plot()
        deadline = started + SECONDS if repeats is None else None
        plan = Plan(new_tokens, repeats or ROUNDS, deadline)
        lab = _lab(configs, messages)
        media = _media(lab.family, config, files, (tiles, frames))
        report["model"] = lab.describe()
        report |= _measure(lab, media, batch_size or [1], plan, progress, profile=profile, tower=tower)
    _finish(report, messages, as_json=as_json, save=save, plot=plot)


def _configs(flags: ModelFlags, presets: list[str] | None) -> dict[str, Config]:
    """A configuration for each preset, by its name; all of one model."""
    from illava_cli.models import schedule_key
    from illava_cli.models.loading import pick_device

    named = flags.model or os.environ.get("ILLAVA_MODEL") or None
    if named is None:
        device = replace(flags, model=SMALL).config().model.device
        named = LARGE if pick_device(device).type == "cuda" else SMALL
    flags = replace(flags, model=named)
    if not presets:
        config = flags.config()
        presets = [PRESETS.get(schedule_key(config), "auto"), "off"]
    # a preset file is reported by its name, not by where it lies
    return {Path(name).stem: replace(flags, preset=name).config() for name in presets}


def _lab(configs: dict[str, Config], messages: Messages) -> Lab:
    config = next(iter(configs.values()))
    with messages.loading(config.model.id):
        from illava_cli.bench.compare import Lab
        from illava_cli.engine.session import Session

        return Lab(Session(config, on_note=messages.note), configs)


def _media(
    family: Family,
    config: Config,
    files: tuple[list[str], list[str]],
    synthetic: tuple[list[int] | None, list[int] | None],
) -> list[Medium]:
    """What is asked about: the files in one request, or each synthetic medium in its own."""
    from illava_cli.bench.media import real, synthetic_image, synthetic_video

    if any(files):
        return [real(*files, config.media)]
    tiles, frames = synthetic
    if not tiles and not frames:
        tiles = [1]
    return [synthetic_image(n, family) for n in tiles or []] + [synthetic_video(n) for n in frames or []]


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


def _rivals(config: Config, rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    from illava_cli.bench.compare import reported_name
    from illava_cli.bench.rivals import measure_rivals
    from illava_cli.models import family_class
    from illava_cli.models.catalog import model_config
    from illava_cli.models.loading import pick_device, pick_dtype

    raw = model_config(config)
    if raw["model_type"] != "llava_onevision":
        raise UsageError("--rivals measures LLaVA-OneVision's layers: name such a model")
    _, model_class = family_class("llava_onevision", config.model.id)
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
    return {"model": model, "rivals": measure_rivals(shapes, device, dtype, rounds, progress)}


def _progress(messages: Messages) -> Callable[[str], None]:
    """A line for each step, for a person who waits: on a terminal only."""
    import sys

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
    text = json.dumps(report, ensure_ascii=False) + "\n"
    if save is not None:
        write_file(save, text)
    if plot is not None:
        from illava_cli.bench.plot import plot_tower

        plot_tower(report["tower"], headline(report), plot)
    if as_json:
        emit(text)
    show = messages.say if as_json else messages.show
    show(headline(report))
    for header, rows in tables(report):
        show("\n" + table(header, rows))
