"""Small LLaVA-NeXT and LLaVA-OneVision checkpoints."""

import json
from pathlib import Path

import torch
from transformers import (
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
)

from tests.builders.common import (
    Layout,
    merged,
    random_model,
    rename_weights,
    text_config,
    tokenizer_of,
    write,
)

TILE = 84  # 6x6 patches
GRIDS = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3), (4, 1)]
PINPOINTS = [[TILE * rows, TILE * cols] for rows, cols in GRIDS]
NEXT_PINPOINTS = [[TILE * rows, TILE * cols] for rows, cols in [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)]]


def write_llava_next(
    folder: str | Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    layout: Layout = "new",
    **overrides,
) -> Path:
    """6x6 tokens and a class token a tile, up to 2x2 tiles; 6 of 7 tower layers and 6 text layers count."""
    source, ids = tokenizer_of("llava-next")
    config = {
        "image_token_index": ids["<image>"],
        "image_grid_pinpoints": NEXT_PINPOINTS,
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 7,
            "num_attention_heads": 4,
            "image_size": TILE,
            "patch_size": 14,
        },
        "text_config": {"model_type": "llama", "sliding_window": None, **text_config(ids)},
    }
    config = LlavaNextConfig(**merged(config, overrides))
    edge = config.vision_config.image_size
    preprocessor = json.loads((source / "preprocessor_config.json").read_text(encoding="utf-8"))
    preprocessor |= {
        "size": {"shortest_edge": edge},
        "crop_size": {"height": edge, "width": edge},
        "image_grid_pinpoints": config.image_grid_pinpoints,
    }
    processor = {
        "processor_class": "LlavaNextProcessor",
        "image_token": "<image>",
        "num_additional_image_tokens": 1,
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
    }
    model = random_model(LlavaNextForConditionalGeneration, config, seed, dtype, ids)
    folder = write(folder, model, source, layout, preprocessor, None, processor)
    if layout == "old":
        rename_weights(folder / "model.safetensors", "vision_tower.", "vision_tower.vision_model.")
    return folder


def write_llava_onevision(
    folder: str | Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    layout: Layout = "new",
    **overrides,
) -> Path:
    """6x6 tokens a tile, up to 3x3 tiles, shrunk above 4 tiles' worth; 7 tower and 6 text layers."""
    source, ids = tokenizer_of("llava-onevision")
    config = {
        "image_token_index": ids["<image>"],
        "video_token_index": ids["<video>"],
        "image_grid_pinpoints": PINPOINTS,
        "vision_aspect_ratio": "anyres_max_4",
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 7,
            "num_attention_heads": 4,
            "image_size": TILE,
            "patch_size": 14,
            "vision_use_head": False,
        },
        "text_config": {"model_type": "qwen2", **text_config(ids)},
    }
    config = LlavaOnevisionConfig(**merged(config, overrides))
    size = {"height": config.vision_config.image_size, "width": config.vision_config.image_size}
    tokens = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    preprocessor = json.loads((source / "preprocessor_config.json").read_text(encoding="utf-8"))
    preprocessor |= {"size": size, "image_grid_pinpoints": config.image_grid_pinpoints}
    video = {key: preprocessor[key] for key in preprocessor.keys() - {"image_grid_pinpoints", "do_pad"}}
    processor = {
        "processor_class": "LlavaOnevisionProcessor",
        "image_token": "<image>",
        "video_token": "<video>",
        "num_image_tokens": tokens,
        "vision_aspect_ratio": config.vision_aspect_ratio,
        "vision_feature_select_strategy": "full",
    }
    model = random_model(LlavaOnevisionForConditionalGeneration, config, seed, dtype, ids)
    folder = write(folder, model, source, layout, preprocessor, video, processor)
    if layout == "old":
        rename_weights(folder / "model.safetensors", "vision_tower.", "vision_tower.vision_model.")
    return folder
