"""What a checkpoint's files say beside its weights: configuration, tokenizer and processors."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import CONFIG_MAPPING, AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedConfig

from illava_cli.config.options import ModelOptions
from illava_cli.errors import IllavaError, ModelError
from illava_cli.models import family_class
from illava_cli.models.catalog import first_line, read_config
from illava_cli.models.family import Family
from illava_cli.models.layers import SLIDING, Layers
from illava_cli.models.repository import (
    KEY_MAPPING,
    image_settings,
    is_repository,
    prepare_tokenizer,
    slow_tokenizer,
)

# one tile of 729 tokens at a time: on a CPU as fast as all at once, and faster than two
CHUNK_MB = {"cpu": 32}
GPU_CHUNK_MB = 256


@dataclass(frozen=True)
class Files:
    """What a checkpoint's small files say.

    Args:
        raw: its config.json, by the names of a family.
        mapping: of names of weights, where they are others than those of `transformers`.
    """

    folder: Path
    raw: dict
    family_type: type[Family]
    config: PreTrainedConfig
    tokenizer: Any
    image_processor: Any
    mapping: dict[str, str] | None

    def load(self, settings: dict, config: PreTrainedConfig | None = None) -> tuple[torch.nn.Module, dict]:
        """The model with its weights, and what `from_pretrained` tells of them.

        Args:
            config: in place of its own.
        """
        if self.mapping is not None:
            settings = settings | {"key_mapping": self.mapping}
        return self.family_type.stock_class.from_pretrained(
            self.folder,
            config=self.config if config is None else config,
            output_loading_info=True,
            local_files_only=True,
            **settings,
        )

    def family(self, model: torch.nn.Module, options: ModelOptions) -> Family:
        """With our loops bound to the model."""
        _sane_generation(model, self.tokenizer)
        own = self.family_type, model.eval(), self.tokenizer, self.image_processor
        return assemble(*own, self.folder, options)


def read_files(folder: Path) -> Files:
    """A checkpoint's, but for its weights."""
    raw = read_config(folder)
    family_type = family_class(raw["model_type"], str(folder))
    raw, config_class = without_null_rope(raw), family_type.stock_class.config_class
    if is_repository(raw):
        tokenizer = _tokenizer(folder, raw, type_alone(_read_json(folder / "config.json")["model_type"]))
        fields = {name: value for name, value in raw.items() if name != "model_type"}
        config = config_class(**fields, **prepare_tokenizer(tokenizer, raw))
        image_processor = family_type.image_processor_class(**image_settings(raw))
        return Files(folder, raw, family_type, config, tokenizer, image_processor, KEY_MAPPING)
    config = config_class.from_dict(raw | {"name_or_path": str(folder)})
    tokenizer = _tokenizer(folder, raw, config)
    image_processor = family_type.image_processor_class.from_pretrained(folder)
    return Files(folder, raw, family_type, config, tokenizer, image_processor, None)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Says in a line what is wrong with a checkpoint's files.

    Raises:
        ModelError: they are damaged or missing, or do not fit into memory.
    """
    try:
        yield
    except IllavaError:
        raise
    except torch.OutOfMemoryError:
        raise ModelError(
            f"{name} does not fit into memory: try --dtype bfloat16 or --quantization bnb-4bit"
        ) from None
    except BROKEN_FILES as error:
        raise ModelError(f"cannot load {name}: {first_line(error, 160)}") from error


# what `transformers`, `tokenizers` and `safetensors` raise on files that are damaged or missing
BROKEN_FILES = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError)


def without_null_rope(config: dict) -> dict:
    """A config.json without `"rope_scaling": null`: `transformers` warns of the key, whatever its value."""
    return {
        name: without_null_rope(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if not (name == "rope_scaling" and value is None)
    }


def type_alone(kind: str) -> PreTrainedConfig:
    """A configuration by which a tokenizer's class is found, without fields that its class warns of."""
    return AutoConfig.for_model(kind) if kind in CONFIG_MAPPING else PreTrainedConfig()


def _tokenizer(folder: Path, raw: dict, config: PreTrainedConfig):
    """The checkpoint's tokenizer; without its files `transformers` would make an empty one.

    Args:
        config: given, or `transformers` would read config.json for it once more.
    """
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        raise ModelError(f"{folder} has no tokenizer (tokenizer.json): download the checkpoint again")
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
        # without it `transformers` would take the file for another kind
        need(
            "sentencepiece",
            f"the tokenizer of {folder} is sentencepiece's: pip install 'illava[sentencepiece]'",
        )
    if is_repository(raw) and not (folder / "tokenizer.json").exists():
        return slow_tokenizer(folder, raw, _read_json(folder / "tokenizer_config.json"))
    return AutoTokenizer.from_pretrained(folder, config=config)


def _sane_generation(model, tokenizer) -> None:
    """Decoding is ours to configure; of the checkpoint's settings only the end tokens stay."""
    own = model.generation_config
    end = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    model.generation_config = GenerationConfig(eos_token_id=end, bos_token_id=own.bos_token_id)


def assemble(family_type, model, tokenizer, image_processor, folder: Path, options: ModelOptions) -> Family:
    if tokenizer.chat_template is None:
        tokenizer.chat_template = _chat_template(folder)
    model.requires_grad_(False)
    text = model.config.text_config
    # a Mistral has no layer types: where a window is set, all its layers have it
    layer_types = getattr(text, "layer_types", None) or []
    slides = SLIDING in layer_types or (not layer_types and getattr(text, "sliding_window", None))
    if slides and family_type.layers_class is Layers:  # which knows of no windows
        raise ModelError(f"{options.id} has sliding-window layers, for which merging is not defined here")
    return family_type(
        model,
        tokenizer,
        image_processor,
        _video_settings(folder, image_processor),
        (options.vision_chunk_mb or CHUNK_MB.get(model.device.type, GPU_CHUNK_MB)) << 20,
        options.schedule,
    )


def _chat_template(folder: Path) -> str:
    """The template of checkpoints that keep it in `chat_template.json` or in the processor's settings."""
    for name in ("chat_template.json", "processor_config.json"):
        settings = _read_json(folder / name)
        if settings.get("chat_template"):
            return settings["chat_template"]
    raise ModelError(f"{folder} has no chat template (chat_template.jinja or chat_template.json)")


def _video_settings(folder: Path, image_processor) -> dict:
    """Settings of the checkpoint's video processor, in the order in which `transformers` looks for them."""
    nested = _read_json(folder / "processor_config.json").get("video_processor")
    settings = (
        nested
        or _read_json(folder / "video_preprocessor_config.json")
        or _read_json(folder / "preprocessor_config.json")
    )
    settings = dict(settings)
    for name in ("image_mean", "image_std"):
        settings.setdefault(name, getattr(image_processor, name))
    size = dict(settings.get("size") or {})
    for name, edge in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        if settings.get(name) is not None:
            size[edge] = settings[name]
    settings["size"] = size or dict(image_processor.size or {})
    return settings


def _read_json(path: Path) -> dict:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise ModelError(f"{path} is damaged: download the checkpoint again")
    return settings


def need(package: str, message: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ModelError(message)
