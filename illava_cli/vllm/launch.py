"""With what vLLM is started for a model of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from illava_cli.config.settings import Config
from illava_cli.errors import UsageError
from illava_cli.models import family_class
from illava_cli.models.catalog import RANDOM, checkpoint_folder, read_config
from illava_cli.models.files import read_files, readable
from illava_cli.vllm import MODELS

PRUNING = 0.5  # any share: that videos are pruned is what has vLLM ask for positions


def engine_settings(config: Config, note: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Arguments of vLLM's engine, by their own names.

    Raises:
        UsageError: a model of a family that is not there.
    """
    folder = folder_of(config, note)
    raw = read_config(folder)
    family = raw["model_type"]
    if family not in MODELS:
        raise UsageError(f"the engine vllm knows {', '.join(MODELS)}, not {family}")
    overrides: dict[str, Any] = {
        "architectures": [MODELS[family][0]],
        "illava": config.model_dump_json(exclude_unset=True),
    }
    if family_class(family, str(folder)).rope_axes == 1:
        # with one section it is a rope of one axis whose positions need not be in a row
        section = [head_width(folder) // 2, 0, 0]
        overrides["text_config"] = {"rope_parameters": {"mrope_section": section}}
    return {
        "model": str(folder),
        "hf_overrides": overrides,
        "video_pruning_rate": PRUNING,
        "generation_config": "vllm",  # decoding is as the question says, not as the checkpoint does
    }


def folder_of(config: Config, note: Callable[[str], None]) -> Path:
    """The checkpoint's directory, downloaded where it has to be."""
    name = str(config.model.id)
    if name.startswith(RANDOM):
        raise UsageError(f"the engine vllm loads checkpoints, and {name} is none: -m tiny is one")
    return checkpoint_folder(name, config.model.revision, note)


def head_width(folder: Path) -> int:
    """Of the decoder's attention; a checkpoint need not say what its class has by default."""
    with readable(str(folder)):
        text = read_files(folder).config.text_config
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
