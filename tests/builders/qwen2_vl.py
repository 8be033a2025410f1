"""Small Qwen2-VL and Qwen2.5-VL checkpoints."""

import json
from pathlib import Path

import torch
from transformers import (
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from tests.builders.common import Layout, merged, random_model, text_config, tokenizer_of, write, write_json


def write_qwen2_vl(folder: str | Path, **settings) -> Path:
    """1 to 36 tokens an image or pair of frames; 6 tower and 6 text layers."""
    vision = {"depth": 6, "embed_dim": 32, "num_heads": 4, "hidden_size": 32}
    return _write_qwen(folder, Qwen2VLConfig, Qwen2VLForConditionalGeneration, vision, **settings)


def write_qwen2_5_vl(folder: str | Path, **settings) -> Path:
    """As `write_qwen2_vl`, in windows of 2x2 tokens but for layers 1 and 4 of the tower."""
    vision = {
        "depth": 6,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "out_hidden_size": 32,
        "window_size": 56,
        "fullatt_block_indexes": [1, 4],
        "tokens_per_second": 2,
    }
    return _write_qwen(folder, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, vision, **settings)


def _write_qwen(
    folder: str | Path,
    config_class: type,
    model_class: type[PreTrainedModel],
    vision: dict,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    layout: Layout = "new",
    min_pixels: int = 28 * 28,
    max_pixels: int = 28 * 28 * 36,
    **overrides,
) -> Path:
    source, ids = tokenizer_of("qwen2-vl")
    config = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_config": vision,
        "text_config": merged(text_config(ids), {"rope_parameters": {"mrope_section": [1, 1, 2]}}),
    }
    config = config_class(**merged(config, overrides))
    preprocessor = json.loads((source / "preprocessor_config.json").read_text(encoding="utf-8"))
    preprocessor |= {"min_pixels": min_pixels, "max_pixels": max_pixels}
    if layout == "new":
        preprocessor["size"] = {
            "shortest_edge": preprocessor.pop("min_pixels"),
            "longest_edge": preprocessor.pop("max_pixels"),
        }
    model = random_model(model_class, config, seed, dtype, ids)
    processor = {"processor_class": "Qwen2VLProcessor"}
    folder = write(folder, model, source, layout, preprocessor, dict(preprocessor), processor)
    if layout == "old":
        _flatten_qwen_config(folder / "config.json")
    return folder


def _flatten_qwen_config(path: Path) -> None:
    """The hub's Qwen2-VL: text values at the top level, and rope in two keys."""
    config = json.loads(path.read_text(encoding="utf-8"))
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    vision = config["vision_config"]
    for key in ("model_type", "layer_types"):
        text.pop(key, None)
    for key in ("model_type", "rope_parameters", "initializer_range"):
        vision.pop(key, None)
    vision |= {"in_chans": vision.pop("in_channels"), "spatial_patch_size": vision["patch_size"]}
    config |= text
    config["rope_theta"] = rope["rope_theta"]
    config["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    config["torch_dtype"] = config.pop("dtype")
    write_json(path, config)
