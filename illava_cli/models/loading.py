"""From a configuration to a loaded family: weights by `from_pretrained`, or random by architecture."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
)
from transformers import logging as hf_logging

from illava_cli.config.options import ModelOptions
from illava_cli.config.places import PACKAGE
from illava_cli.config.settings import Config
from illava_cli.errors import IllavaError, ModelError, UsageError
from illava_cli.models import family_class
from illava_cli.models.catalog import RANDOM, architecture, checkpoint_folder, first_line, read_config
from illava_cli.models.family import Family
from illava_cli.models.hf import no_init_weights
from illava_cli.models.layers import SLIDING, Layers
from illava_cli.models.processor import slow_dtype
from illava_cli.models.repository import (
    KEY_MAPPING,
    image_settings,
    is_repository,
    prepare_tokenizer,
    slow_tokenizer,
)
from illava_cli.models.whole import refuse_other_tower, refuse_partial

# one tile of 729 tokens at a time: on a CPU as fast as all at once, and faster than two
CHUNK_MB = {"cpu": 32}
GPU_CHUNK_MB = 256
BLOCK = (1 << 22) + 3  # no row length divides it, so that rows differ
TOKENIZERS = PACKAGE / "assets" / "tokenizer"


def load_family(config: Config, note: Callable[[str], None]) -> Family:
    """The model of `config`, with our loops bound to it.

    Raises:
        ModelError: no such device, no such back end, weights missing or unreadable, offline.
        UsageError: a family that we do not know.
    """
    options = config.model
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    attn = pick_attention(options.attn, device, dtype)
    if device.type == "cpu" and (slow := slow_dtype(str(dtype).removeprefix("torch."))):
        note(slow)
    if options.id.startswith(RANDOM):
        family = random_family(options, device, dtype, attn)
    else:
        folder = checkpoint_folder(options.id, options.revision, note)
        family = _pretrained(folder, options, device, dtype, attn)
    if options.compile:
        family.compile()
    return family


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA, then MPS, then the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise UsageError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:N or mps")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"there is no device {name[:20]}: use cuda or cpu") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ModelError(
                "CUDA was asked for and there is none: use --device cpu (`illava doctor` shows what is there)"
            )
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise ModelError(
                f"there is no {name}: this machine has {torch.cuda.device_count()} CUDA device(s)"
            )
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError("MPS was asked for and there is none: use --device cpu")
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; `auto` is bfloat16 (float16 where there is none) on a GPU, float32 on a CPU."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float16 if device.type == "mps" else torch.float32


def pick_attention(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """The attention back end; `auto` is SDPA, which chooses its own best kernel."""
    if name == "auto":
        return "sdpa"
    if name == "flash_attention_2":
        if importlib.util.find_spec("flash_attn") is None:
            raise ModelError(
                "flash_attention_2 needs the flash-attn package: pip install flash-attn, or --attn sdpa"
            )
        if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
            raise ModelError("flash_attention_2 needs CUDA and float16 or bfloat16: use --attn sdpa")
    return name


def random_family(options: ModelOptions, device: torch.device, dtype: torch.dtype, attn: str) -> Family:
    """A shipped architecture with random weights: the same ones each time, and no download."""
    name = options.id.removeprefix(RANDOM)
    spec = architecture(name)
    if options.quantization or options.device_map:
        raise UsageError("quantization and device_map are for checkpoints, not for random: models")
    family_type = family_class(spec["family"], options.id)
    model_class = family_type.stock_class
    folder = TOKENIZERS / family_type.tokenizer_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
        for name, token in family_type.special_tokens.items()
    }
    model_config = model_class.config_class(**spec["config"], **settings)
    model_config._attn_implementation = attn
    with no_init_weights(), torch.device(device):
        model = model_class._from_config(model_config, dtype=dtype)
    model.tie_weights()  # part of the initialisation that was left out
    _fill(model)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    image_processor = family_type.image_processor_class.from_pretrained(folder)
    return _assemble(family_type, model.eval(), tokenizer, image_processor, folder, options)


def _fill(model: torch.nn.Module) -> None:
    """Normal weights of standard deviation 0.02 from one repeated block: drawing billions takes minutes."""
    block = (torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)) * 0.02).to(
        model.device, model.dtype
    )
    at = 0  # goes on from parameter to parameter, so that none begins like another
    for name, parameter in model.named_parameters():
        flat = parameter.data.view(-1)
        if parameter.dim() == 1 and name.endswith(("weight", "bias")):
            flat.fill_(float(name.endswith("weight")))  # of a norm, or a bias
            continue
        done = 0
        while done < len(flat):
            taken = min(len(flat) - done, BLOCK - at)
            flat[done : done + taken] = block[at : at + taken]
            done, at = done + taken, (at + taken) % BLOCK


def _pretrained(
    folder: Path, options: ModelOptions, device: torch.device, dtype: torch.dtype, attn: str
) -> Family:
    raw = read_config(folder)
    family_type = family_class(raw["model_type"], str(folder))
    model_class = family_type.stock_class
    # a weight of another shape is reported like a missing one, below
    settings: dict = {"dtype": dtype, "attn_implementation": attn, "ignore_mismatched_sizes": True}
    if dtype == torch.float64:  # which grouped products of experts do not know
        settings["experts_implementation"] = "eager"
    if options.device_map is not None or options.quantization is not None:
        _need("accelerate", "device_map and quantization need accelerate: pip install 'illava[multi-gpu]'")
        settings["device_map"] = options.device_map or {"": device}
        settings["offload_folder"] = options.offload_folder
    if options.quantization is not None:
        settings["quantization_config"] = _quantization(options.quantization, dtype)
    raw = without_null_rope(raw)
    try:
        if is_repository(raw):
            settings["key_mapping"] = KEY_MAPPING
            tokenizer = _tokenizer(folder, raw, type_alone(_read_json(folder / "config.json")["model_type"]))
            fields = {name: value for name, value in raw.items() if name != "model_type"}
            config = model_class.config_class(**fields, **prepare_tokenizer(tokenizer, raw))
            image_processor = family_type.image_processor_class(**image_settings(raw))
        else:
            config = model_class.config_class.from_dict(raw | {"name_or_path": str(folder)})
            tokenizer = _tokenizer(folder, raw, config)
            image_processor = family_type.image_processor_class.from_pretrained(folder)
        model, info = model_class.from_pretrained(
            folder, config=config, output_loading_info=True, local_files_only=True, **settings
        )
    except IllavaError:
        raise
    except torch.OutOfMemoryError:
        raise ModelError(
            f"{options.id} does not fit into memory: try --dtype bfloat16 or --quantization bnb-4bit"
        ) from None
    except BROKEN_FILES as error:
        raise ModelError(f"cannot load {options.id}: {first_line(error, 160)}") from error
    if is_repository(raw):
        refuse_other_tower(info, model, options.id, raw["mm_vision_tower"])
    refuse_partial(info, options.id)
    _sane_generation(model, tokenizer)
    if "device_map" not in settings:
        model = model.to(device)
    return _assemble(family_type, model.eval(), tokenizer, image_processor, folder, options)


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
        _need(
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


def _assemble(family_type, model, tokenizer, image_processor, folder: Path, options: ModelOptions) -> Family:
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


def _quantization(name: str, dtype: torch.dtype):
    _need("bitsandbytes", "quantization needs bitsandbytes: pip install 'illava[quantization]'")
    from transformers import BitsAndBytesConfig

    # the tower and the projector are small and sensitive: they stay as they are
    skip = ["vision_tower", "visual", "multi_modal_projector", "embed_vision", "lm_head"]
    if name == "bnb-8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=skip
    )


def _need(package: str, message: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ModelError(message)
