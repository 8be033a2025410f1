"""Families without their decoder, for engines that have one of their own."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers import logging as hf_logging

from illava_cli.config.options import ModelOptions
from illava_cli.models.family import Family
from illava_cli.models.files import Files, read_files, readable
from illava_cli.models.hf import no_init_weights
from illava_cli.models.whole import faulty_keys, refuse_partial

OTHERS = ("model.language_model.", "lm_head.")  # weights that are not needed


def family_of_files(folder: Path, schedule: str | None = None) -> Family:
    """What says how a checkpoint's media stand and how many tokens they take: without any weights.

    Args:
        schedule: `model.schedule`, where it is set.

    Raises:
        ModelError: files that are damaged or missing.
    """
    options = ModelOptions(id=str(folder), schedule=schedule)
    with readable(str(folder)):
        files = read_files(folder)
        with no_init_weights(), torch.device("meta"):
            model = files.family_type.stock_class._from_config(_without_layers(files.config))
    return _finished(files, model, options)


def family_that_sees(
    folder: Path, device: torch.device, dtype: torch.dtype, schedule: str | None = None
) -> Family:
    """Tower and projector with their weights.

    Raises:
        ModelError: files or weights that are damaged or missing.
    """
    options = ModelOptions(id=str(folder), schedule=schedule)
    settings = {"dtype": dtype, "attn_implementation": "sdpa", "ignore_mismatched_sizes": True}
    hf_logging.set_verbosity_error()  # it would list the weights that are left out
    hf_logging.disable_progress_bar()
    with readable(str(folder)):
        files = read_files(folder)
        # whoever loads within another device's context would need accelerate
        with torch.device("cpu"):
            model, info = files.load(settings, _without_layers(files.config))
    unneeded = [key for key in faulty_keys(info, "unexpected_keys") if key.startswith(OTHERS)]
    refuse_partial(info | {"unexpected_keys": set(info["unexpected_keys"]) - set(unneeded)}, str(folder))
    width = model.get_input_embeddings().weight.shape[1]
    # the family asks them for its device
    model.set_input_embeddings(nn.Embedding(1, width, dtype=dtype))
    model.lm_head = nn.Identity()
    return _finished(files, model.to(device), options)


def _without_layers(config: PreTrainedConfig) -> PreTrainedConfig:
    config = copy.deepcopy(config)
    config.text_config.num_hidden_layers = 0
    if getattr(config.text_config, "layer_types", None):
        config.text_config.layer_types = []
    if hasattr(config, "quantization_config"):  # of the decoder
        del config.quantization_config
    config._attn_implementation = "sdpa"
    return config


def _finished(files: Files, model: nn.Module, options: ModelOptions) -> Family:
    family = files.family(model, options)
    family.text_config = (
        files.config.text_config
    )  # schedules name the layers of the decoder that is elsewhere
    return family
