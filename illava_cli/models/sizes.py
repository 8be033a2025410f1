"""Which schedules fit a model: its family's, or those that were made for one size of it.

A model's YAML names the key under which presets have schedules for its size (`model.schedule`). Another
checkpoint of that family whose decoder is as wide has the same: a fine-tuned one, or one by its hub id.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from illava_cli.config.places import shipped
from illava_cli.config.presets import preset_names
from illava_cli.config.reading import read_yaml
from illava_cli.config.settings import Config
from illava_cli.errors import UsageError
from illava_cli.families import FAMILIES
from illava_cli.models.catalog import architecture, model_config, read_config, shipped_folder


@dataclass(frozen=True)
class Size:
    """A shipped model with schedules of its own; `name` is its YAML's."""

    name: str
    key: str
    family: str
    width: int


@cache
def sizes() -> tuple[Size, ...]:
    """The shipped models that have schedules of their own."""
    found = []
    for name, path in shipped("models").items():
        model = read_yaml(path)["model"]
        if key := model.get("schedule"):
            folder = shipped_folder(model["id"])
            if folder is None:
                spec = architecture(name)
                raw = {"model_type": spec["family"], **spec["config"]}
            else:
                raw = read_config(folder)
            found.append(Size(name, key, raw["model_type"], _width(raw)))
    return tuple(found)


def key_of(family: str, width: int, chosen: str | None) -> str:
    """The key of `Config.reduction_for`.

    Args:
        width: of the decoder.
        chosen: `model.schedule`, where it is set.

    Raises:
        UsageError: `chosen` is another family's.
    """
    own = FAMILIES[family].schedules or family if family in FAMILIES else family
    if chosen is None:
        return next((s.key for s in sizes() if (s.family, s.width) == (family, width)), own)
    if chosen != own and not chosen.startswith(f"{own}_"):
        raise UsageError(f"model.schedule: {chosen!r} is not for a {family!r} model: name one that begins so")
    return chosen


def schedule_key(config: Config) -> str:
    """`key_of` a configuration's model, with nothing loaded.

    Raises:
        ModelError: a hub id whose config.json is not on this machine.
    """
    raw = model_config(config)
    return key_of(raw["model_type"], _width(raw), config.model.schedule)


def own_preset(key: str) -> str:
    """The shipped preset that was made for the models of a schedule key."""
    if key in FAMILIES:
        return FAMILIES[key].preset
    return next((size.name for size in sizes() if size.key == key and size.name in preset_names()), "auto")


def _width(raw: dict) -> int:
    return raw.get("text_config", raw).get("hidden_size", 0)
