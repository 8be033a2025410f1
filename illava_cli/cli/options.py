"""The flags that every command with a model shares, declared once, and their way into a `Config`."""

from __future__ import annotations

import ast
import inspect
import os
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

if TYPE_CHECKING:
    from illava_cli.config.settings import Config

T = TypeVar("T")
DEBUG_VARIABLE = "ILLAVA_DEBUG"


def described(thing: T) -> T:
    """A function or class with its docstring, read from its source where `python -OO` stripped it."""
    if thing.__doc__ is None and sys.flags.optimize > 1:
        with suppress(OSError, TypeError, SyntaxError):  # without sources there is no help either
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
            thing.__doc__ = ast.get_docstring(node, clean=False)
    return thing


def _show_tracebacks(wanted: bool) -> None:
    # in the environment, because it must also hold outside of the command, where errors are caught
    if wanted:
        os.environ[DEBUG_VARIABLE] = "1"


def _shipped(kind: str) -> Callable[[str], list[str]]:
    """Completes names of the YAML that is shipped, such as `models`; no file is read for it."""

    def names(incomplete: str) -> list[str]:
        from illava_cli.config.places import shipped

        return [name for name in shipped(kind) if name.startswith(incomplete)]

    return names


Debug = Annotated[
    bool,
    typer.Option(
        "--debug", callback=_show_tracebacks, is_eager=True, help="Show tracebacks (also ILLAVA_DEBUG=1)."
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option("-p", "--prompt", metavar="TEXT", help="The question; - or none reads piped stdin."),
]
Format = Annotated[str, typer.Option("--format", metavar="text|json", help="Form of the result.")]
Images = Annotated[
    list[str] | None,
    typer.Option("--image", metavar="PATH", help="Image: path, URL, glob or - (stdin); repeats."),
]
Videos = Annotated[
    list[str] | None,
    typer.Option("--video", metavar="PATH", help="Video: path, URL, glob or - (stdin); repeats."),
]


@dataclass(frozen=True)
class ModelFlags:
    """The common flags as given; `None` means not given, so that environment and YAML hold."""

    model: Annotated[
        str | None,
        typer.Option(
            "-m",
            "--model",
            metavar="NAME",
            autocompletion=_shipped("models"),
            help="Name, YAML file, folder, hub id or random:NAME.",
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            autocompletion=_shipped("presets"),
            help="Merging schedule (default: auto).",
        ),
    ] = None
    method: Annotated[
        str | None, typer.Option("--method", metavar="NAME", help="Method of the preset's merge points.")
    ] = None
    device: Annotated[
        str | None, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
    ] = None
    device_map: Annotated[
        str | None,
        typer.Option("--device-map", metavar="MAP", help="Spread over devices: auto, balanced, ..."),
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", metavar="TYPE", help="auto, float32, float16, bfloat16 or float64."),
    ] = None
    attn: Annotated[
        str | None,
        typer.Option("--attn", metavar="NAME", help="auto, sdpa, flash_attention_2 or eager."),
    ] = None
    quantization: Annotated[
        str | None, typer.Option("--quantization", metavar="NAME", help="bnb-4bit or bnb-8bit.")
    ] = None
    compile: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile the model, record its steps; slow to start."),
    ] = None
    num_frames: Annotated[
        int | None, typer.Option("--num-frames", metavar="N", help="Frames of a video, evenly spaced.")
    ] = None
    fps: Annotated[
        float | None, typer.Option("--fps", metavar="X", help="Frames per second, instead of a number.")
    ] = None
    video_budget: Annotated[
        int | None,
        typer.Option(
            "--video-budget", metavar="N", help="Most LLM tokens of a video: more frames have fewer each."
        ),
    ] = None
    start: Annotated[
        float | None,
        typer.Option("--start", metavar="S", help="Start within the video, in seconds as players count."),
    ] = None
    end: Annotated[
        float | None,
        typer.Option("--end", metavar="S", help="End within the video, in seconds as players count."),
    ] = None
    max_tiles: Annotated[
        int | None,
        typer.Option("--max-tiles", metavar="N", help="Most tiles of an image; 1 = one padded square."),
    ] = None
    min_pixels: Annotated[
        int | None,
        typer.Option("--min-pixels", metavar="N", help="Fewest pixels of an image or frame (Qwen, Gemma)."),
    ] = None
    max_pixels: Annotated[
        int | None,
        typer.Option("--max-pixels", metavar="N", help="Most pixels of an image or frame (Qwen, Gemma)."),
    ] = None
    max_megapixels: Annotated[
        float | None,
        typer.Option("--max-megapixels", metavar="X", help="Largest image or frame, in million pixels."),
    ] = None
    tile_each: Annotated[
        bool | None,
        typer.Option("--tile-each/--no-tile-each", help="Tile each of several images too (LLaVA)."),
    ] = None
    video_backend: Annotated[
        str | None, typer.Option("--video-backend", metavar="NAME", help="auto, decord or pyav.")
    ] = None
    media_timeout: Annotated[
        float | None,
        typer.Option(
            "--media-timeout", metavar="S", help="Seconds to get and decode one image or video (120)."
        ),
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="N", help="Longest answer, in tokens.")
    ] = None
    temperature: Annotated[
        float | None, typer.Option("--temperature", metavar="X", help="0 = greedy (the default).")
    ] = None
    top_p: Annotated[
        float | None, typer.Option("--top-p", metavar="X", help="Sample from this much probability.")
    ] = None
    top_k: Annotated[
        int | None, typer.Option("--top-k", metavar="N", help="Sample from so many of the likeliest tokens.")
    ] = None
    min_p: Annotated[
        float | None,
        typer.Option("--min-p", metavar="X", help="Sample from tokens this near the likeliest (0 to 1)."),
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed of the sampling.")] = None
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="Ends the answer; repeats.")
    ] = None
    json_schema: Annotated[
        Path | None,
        typer.Option("--schema", metavar="FILE", help="JSON schema that each answer conforms to."),
    ] = None
    system: Annotated[str | None, typer.Option("-s", "--system", metavar="TEXT", help="System prompt.")] = (
        None
    )
    thinking: Annotated[
        bool | None,
        typer.Option("--thinking/--no-thinking", help="Let it think before it answers (Qwen3.5, Gemma 4)."),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. llm.keep=0.5; repeats."),
    ] = None
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only results and errors.")] = False
    debug: Debug = False

    def config(self) -> Config:
        """The configuration under these flags: command line > ILLAVA_* > YAML > defaults."""
        from illava_cli.config.sources import resolve

        return resolve(self.model, settings=self.settings, overrides=self.overrides())

    def overrides(self) -> dict[str, Any]:
        """The flags that were given, as the nested mapping that a YAML file would hold."""
        from illava_cli.config.options import GROUP_OF
        from illava_cli.config.sources import grouped

        known = {"preset", "method", *GROUP_OF}
        flags = {field.name: getattr(self, field.name) for field in fields(self) if field.name in known}
        if self.json_schema is not None:
            from illava_cli.config.json_schema import read_schema

            flags["json_schema"] = read_schema(self.json_schema)
        # an absent repeatable flag is None or an empty list, by the version of Typer
        return grouped({name: value for name, value in flags.items() if value not in (None, [])})


def with_model_flags(command: Callable | None = None, *, without: tuple[str, ...] = ()) -> Callable:
    """Gives a command the common flags: its parameter `flags` becomes all of `ModelFlags`' options.

    `without` names those that the command does not take, or declares in another form.
    """
    if command is None:
        return partial(with_model_flags, without=without)
    hints = get_type_hints(command, include_extras=True)
    flag_hints = get_type_hints(ModelFlags, include_extras=True)
    flag_fields = [field for field in fields(ModelFlags) if field.name not in without]
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "flags"]

    def wrapper(**values: Any) -> None:
        flags = ModelFlags(**{field.name: values.pop(field.name) for field in flag_fields})
        command(**values, flags=flags)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [p.replace(kind=keyword, annotation=hints[p.name]) for p in own]
    parameters += [
        inspect.Parameter(field.name, keyword, default=field.default, annotation=flag_hints[field.name])
        for field in flag_fields
    ]
    wrapper.__name__ = command.__name__
    wrapper.__doc__ = described(command).__doc__
    wrapper.__signature__ = inspect.Signature(parameters)
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def check_format(name: str, known: tuple[str, ...] = ("text", "json")) -> str:
    """`name` when it is a known output format.

    Raises:
        UsageError: it is none; names those that there are.
    """
    if name not in known:
        from illava_cli.errors import UsageError

        raise UsageError(f"--format {name!r}: expected {' or '.join(known)}")
    return name


def help_unless_subcommand(context: typer.Context) -> None:
    """A group called without a command: its help on stderr, exit 2."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)
