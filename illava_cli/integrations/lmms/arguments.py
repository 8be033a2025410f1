"""The harness's `--model_args` -> the configuration of a session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from illava_cli.config.options import GROUP_OF
from illava_cli.config.settings import Config
from illava_cli.config.sources import resolve
from illava_cli.config.stages import Reduction
from illava_cli.errors import UsageError
from illava_cli.text import near_miss

# what other models of the harness call our settings
ALIASES = {
    "attn_implementation": "attn",
    "max_frames_num": "num_frames",
    "max_num_frames": "num_frames",
    "max_new_tokens": "max_tokens",
    "system_prompt": "system",
}
PATHS = {name: f"{group}.{name}" for name, group in GROUP_OF.items()} | {
    name: name for name in ("preset", *Reduction.model_fields) if name != "description"
}
MODELS = ("config", "pretrained", "model")  # three words for the one thing


def configuration(arguments: Mapping[str, Any]) -> Config:
    """What `--model_args` asks for.

    Args:
        arguments: one of `config` (a YAML file), `pretrained` or `model` (whatever `--model` of the command
            line takes), and settings by their own names (`preset`, `dtype`, `num_frames`, ...), by those of
            `ALIASES`, or in full (`llm.keep`). None stands for not given.

    Raises:
        UsageError: an unknown name or a bad value.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    models = [name for name in MODELS if name in given]
    if len(models) > 1:
        raise UsageError(f"model_args: give one of {' and '.join(models)}, they all name the model")
    model = str(given.pop(models[0])) if models else None
    return resolve(model, settings=[f"{_path(name)}={value}" for name, value in given.items()])


def _path(name: str) -> str:
    own = ALIASES.get(name, name)
    if "." in own:
        return own
    if own not in PATHS:
        known = [*MODELS, *PATHS, *ALIASES, "batch_size", "skip_errors"]
        raise UsageError(f"model_args: unknown setting {name!r}{near_miss(name, known)}")
    return PATHS[own]


def batch_size(value: Any) -> int:
    """The harness's `--batch_size` as a number.

    Raises:
        UsageError: no positive number, as with the harness's `auto`.
    """
    try:
        size = int(value)
    except (TypeError, ValueError):
        size = 0
    if size < 1:
        raise UsageError(f"batch_size must be a number of questions from 1, not {value!r}")
    return size
