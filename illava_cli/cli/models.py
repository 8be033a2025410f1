"""`illava models`: which names `-m` takes, where their weights come from, and whether they are here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from illava_cli.cli.options import Debug, Format, check_format, described, help_unless_subcommand
from illava_cli.cli.output import emit
from illava_cli.cli.render import table
from illava_cli.text import json_text

app = typer.Typer(help="The models that -m takes.", rich_markup_mode=None, add_completion=False)


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """The models that -m takes."""
    help_unless_subcommand(context)


@app.command("list")
@described
def list_models(format: Format = "text", debug: Debug = False) -> None:
    """List the shipped names.

    A checkpoint folder, a YAML file or any hub id of a supported family works as well.
    """
    as_json = check_format(format) == "json"
    entries = [*_checkpoints(), *_built_in()]
    if as_json:
        emit(json_text(entries) + "\n")
        return
    rows = [(e["name"], e["id"] or "-", e["preset"], _where(e)) for e in entries]
    emit(table(("NAME", "CHECKPOINT", "PRESET", "WEIGHTS"), rows) + "\n")


@app.command("show")
@described
def show_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name, YAML file, folder or hub id.")],
    format: Format = "text",
    debug: Debug = False,
) -> None:
    """Show a model's settings, and its architecture where it is known."""
    import yaml

    from illava_cli.config.places import shipped
    from illava_cli.config.reading import read_yaml
    from illava_cli.config.sources import resolve

    as_json = check_format(format) == "json"
    # the model as shipped: what flags and environment make of it is `illava config show`
    config = resolve(name, environ={})
    path = shipped("architectures").get(name.removeprefix("random:"))
    shown: dict[str, Any] = {
        "name": name,
        "config": config.model_dump(mode="json", exclude_none=True),
        "in_cache": in_cache(config.model.id, config.model.revision),
        "architecture": read_yaml(path) if path else None,
    }
    if as_json:
        emit(json_text(shown) + "\n")
    else:
        emit(yaml.safe_dump({k: v for k, v in shown.items() if v is not None}, sort_keys=False))


def in_cache(model: str, revision: str | None = None) -> bool | None:
    """Whether a checkpoint is on this machine, every shard of it; None where nothing is downloaded."""
    from illava_cli.models.catalog import complete, local_folder

    if model.startswith("random:") or local_folder(model) is not None:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, "config.json", revision=revision)
    return isinstance(found, str) and complete(Path(found).parent)


def _checkpoints() -> list[dict[str, Any]]:
    from illava_cli.config.places import shipped
    from illava_cli.config.sources import resolve

    entries = []
    for name in shipped("models"):
        config = resolve(name, environ={})
        cached = in_cache(config.model.id, config.model.revision)
        entries.append({"name": name, "id": config.model.id, "preset": config.preset, "in_cache": cached})
    return entries


def _built_in() -> list[dict[str, Any]]:
    from illava_cli.config.places import shipped

    names = [f"random:{name}" for name in shipped("architectures")]
    return [{"name": name, "id": None, "preset": "auto", "in_cache": None} for name in names]


def _where(entry: dict[str, Any]) -> str:
    from illava_cli.models.catalog import EMBEDDED

    if entry["id"] is None:
        return "random"
    if entry["id"] in EMBEDDED:
        return "in the package"
    return {True: "here", False: "to download", None: "local folder"}[entry["in_cache"]]
