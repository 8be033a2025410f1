"""With what vLLM is started for a model of ours."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from illava_cli.config.settings import Config
from illava_cli.errors import UsageError
from illava_cli.models import family_class
from illava_cli.models.catalog import RANDOM, checkpoint_folder, read_config
from illava_cli.models.files import read_files, readable
from illava_cli.vllm import MODELS

FRAMES = ("num_frames", "fps")
PREPROCESSING = ("max_tiles", "min_pixels", "max_pixels", "tile_each", "video_budget")
# of the decoding; how long an answer may be is left to requests: what vLLM is told of it bounds all of them
DECODING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
GREEDY = {"temperature": 0.0}  # as our engine is where nobody says otherwise
OF_VLLM = ("device", "device_map", "quantization", "attn", "offload_folder", "compile")
ROPES = ("default", "mrope", "yarn")  # of which vLLM's M-RoPE has a kind
PRUNING = 0.5  # any share: that videos are pruned is what has vLLM ask for positions


def engine_settings(config: Config, note: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Arguments of vLLM's engine, by their own names.

    Raises:
        UsageError: a model of a family that is not there, or settings that vLLM cannot be told.
    """
    refuse_others(config)
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
        overrides["text_config"] = {"rope_parameters": {"mrope_section": _section(folder)}}
    found = {
        "model": str(folder),
        "hf_overrides": overrides,
        "video_pruning_rate": PRUNING,
        "generation_config": "vllm",  # decoding is as the question says, not as the checkpoint does
        "override_generation_config": GREEDY | _given(config.generation, DECODING),
    }
    if config.model.dtype != "auto":
        found["dtype"] = config.model.dtype
    if frames := _given(config.media, FRAMES):
        found["media_io_kwargs"] = {"video": frames}
    return found


def refuse_others(config: Config) -> None:
    """Refuse what vLLM cannot be told.

    Raises:
        UsageError: names it.
    """
    for option in OF_VLLM:
        if getattr(config.model, option) not in (None, False, "auto"):
            raise UsageError(f"model.{option}: the engine vllm has options of its own, which go after --")
    known = {"generation": (*DECODING, "max_tokens"), "media": (*FRAMES, *PREPROCESSING)}
    for group, names in known.items():
        for option in sorted(getattr(config, group).model_fields_set - {*names}):
            if getattr(getattr(config, group), option) not in (None, False):
                raise UsageError(f"{group}.{option}: the engine vllm cannot be told; requests may say it")


def _given(group: Any, names: Collection[str]) -> dict[str, Any]:
    """What is set of a group."""
    return {
        name: value
        for name, value in group.model_dump(include=group.model_fields_set & {*names}).items()
        if value is not None
    }


def _section(folder: Path) -> list[int]:
    """That of an M-RoPE of one section, which is a rope of one axis whose positions need not be in a row.

    Raises:
        UsageError: the checkpoint's rope is of a kind that has no such form in vLLM.
    """
    with readable(str(folder)):
        text = read_files(folder).config.text_config
    kind = (text.rope_parameters or {}).get("rope_type", "default")
    if kind not in ROPES:
        raise UsageError(
            f"the engine vllm knows no positions with gaps for the rope {kind!r}: use --engine illava"
        )
    # a checkpoint need not say what its class has by default
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return [width // 2, 0, 0]


def folder_of(config: Config, note: Callable[[str], None]) -> Path:
    """The checkpoint's directory, downloaded where it has to be."""
    name = str(config.model.id)
    if name.startswith(RANDOM):
        raise UsageError(f"the engine vllm loads checkpoints, and {name} is none: -m tiny is one")
    return checkpoint_folder(name, config.model.revision, note)
