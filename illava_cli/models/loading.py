"""From a configuration to a loaded family: weights by `from_pretrained`, or random by architecture."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoTokenizer, GenerationConfig
from transformers import logging as hf_logging

from illava_cli.config.options import ModelOptions
from illava_cli.config.places import PACKAGE
from illava_cli.config.settings import Config
from illava_cli.errors import ModelError, UsageError
from illava_cli.models import family_class
from illava_cli.models.catalog import RANDOM, architecture, checkpoint_folder
from illava_cli.models.family import Family
from illava_cli.models.files import assemble, need, read_files, readable
from illava_cli.models.hf import no_init_weights
from illava_cli.models.processor import slow_dtype
from illava_cli.models.repository import is_repository
from illava_cli.models.whole import refuse_other_tower, refuse_partial

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
    return assemble(family_type, model.eval(), tokenizer, image_processor, folder, options)


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
    # a weight of another shape is reported like a missing one, below
    settings: dict = {"dtype": dtype, "attn_implementation": attn, "ignore_mismatched_sizes": True}
    if dtype == torch.float64:  # which grouped products of experts do not know
        settings["experts_implementation"] = "eager"
    if options.device_map is not None or options.quantization is not None:
        need("accelerate", "device_map and quantization need accelerate: pip install 'illava[multi-gpu]'")
        settings["device_map"] = options.device_map or {"": device}
        settings["offload_folder"] = options.offload_folder
    if options.quantization is not None:
        settings["quantization_config"] = _quantization(options.quantization, dtype)
    with readable(options.id):
        files = read_files(folder)
        model, info = files.load(settings)
    if is_repository(files.raw):
        refuse_other_tower(info, model, options.id, files.raw["mm_vision_tower"])
    refuse_partial(info, options.id)
    if "device_map" not in settings:
        model = model.to(device)
    return files.family(model, options)


def _quantization(name: str, dtype: torch.dtype):
    need("bitsandbytes", "quantization needs bitsandbytes: pip install 'illava[quantization]'")
    from transformers import BitsAndBytesConfig

    # the tower and the projector are small and sensitive: they stay as they are
    skip = ["vision_tower", "visual", "multi_modal_projector", "embed_vision", "lm_head"]
    if name == "bnb-8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=skip
    )
