"""`illava config`: what a run would use, whether YAML files are right, and what may stand in them."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from illava_cli.cli.options import Debug, ModelFlags, described, help_unless_subcommand, with_model_flags
from illava_cli.cli.output import emit
from illava_cli.cli.render import table
from illava_cli.errors import IllavaError, ModelError
from illava_cli.text import harmless

if TYPE_CHECKING:
    from illava_cli.config.settings import Config
    from illava_cli.config.stages import Reduction

app = typer.Typer(
    help="Settings: show, check and describe them.", rich_markup_mode=None, add_completion=False
)


@app.callback(invoke_without_command=True)
def config(context: typer.Context) -> None:
    """Settings: show, check and describe them."""
    help_unless_subcommand(context)


@app.command("show")
@with_model_flags
def show(*, flags: ModelFlags) -> None:
    """Print the settings that a run with these flags would use.

    The output is a YAML file that -m takes; the comments hold its hash and the merging it amounts to.
    """
    import yaml

    resolved = flags.config()
    text = f"# hash: {resolved.hash()}\n" + yaml.safe_dump(as_file(resolved), sort_keys=False)
    try:
        family, reduction = _reduction(resolved)
    except ModelError as error:  # a hub id that was never downloaded
        emit(f"{text}# merging: {error}\n")
        return
    merging = yaml.safe_dump(
        reduction.model_dump(mode="json", exclude_none=True, exclude={"description"}), sort_keys=False
    )
    emit(text + f"# merging ({family}):\n" + "".join(f"#   {line}\n" for line in merging.splitlines()))


@app.command("validate")
@described
def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Model or preset YAML.")],
    debug: Debug = False,
) -> None:
    """Check YAML files: model settings or presets.

    Exit code 2 if one is wrong.
    """
    wrong = False
    for file in files:
        try:
            _check(file)
            emit(f"{file}: ok\n")
        except IllavaError as error:
            wrong = True
            message = str(error)
            print(harmless(message if file in message else f"{file}: {message}"), file=sys.stderr)
    if wrong:
        raise typer.Exit(2)


@app.command("presets")
@described
def list_presets(debug: Debug = False) -> None:
    """List the presets that --preset takes."""
    from illava_cli.config.presets import load_preset, preset_names

    rows = [(name, _description(load_preset(name))) for name in preset_names()]
    emit(table(("PRESET", "DESCRIPTION"), rows) + "\n")


@app.command("schema")
@described
def schema(debug: Debug = False) -> None:
    """Print the JSON schema of the settings, for editors."""
    from illava_cli.config.settings import Config
    from illava_cli.config.values import Strict

    groups = [Strict]
    for group in groups:
        described(group)
        groups += group.__subclasses__()
    emit(json.dumps(Config.model_json_schema(), indent=2) + "\n")


def as_file(config: Config) -> dict[str, Any]:
    """`config` as the YAML file that gives it again.

    The reduction's overrides stand there only where they were set: an absent `vision` leaves the
    preset's, `vision: null` switches it off.
    """
    groups = ("model", "preset", "media", "generation")
    shown = config.model_dump(mode="json", include=set(groups))
    overrides = config.model_dump(mode="json", exclude=set(groups), exclude_unset=True)
    return {name: shown[name] for name in groups} | overrides


def _reduction(config: Config) -> tuple[str, Reduction]:
    """The family and its reduction.

    Raises:
        ModelError: the family is known only after a download.
    """
    from illava_cli.models.sizes import schedule_key

    family = schedule_key(config)
    return family, config.reduction_for(family)


def _check(file: str) -> None:
    """Raises the `UsageError` of a file that is neither right settings nor a right preset."""
    from illava_cli.config.presets import load_preset
    from illava_cli.config.reading import read_yaml
    from illava_cli.config.sources import resolve
    from illava_cli.config.stages import Preset, Reduction

    data = read_yaml(Path(file))
    if "base" in data or (data and set(data) <= Preset.model_fields.keys() | Reduction.model_fields.keys()):
        load_preset(file)
    else:
        config = resolve(file, environ={})
        with contextlib.suppress(ModelError):
            _reduction(config)


def _description(preset: Any) -> str:
    return preset.description or (preset.reduction.description if preset.reduction else "")
