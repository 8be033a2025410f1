"""Small InternVL checkpoints."""

import json
from pathlib import Path

import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration

from tests.builders.common import Layout, merged, random_model, text_config, tokenizer_of, write

EDGE = 84  # 3x3 groups of 2x2 patches


def write_internvl(
    folder: str | Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    layout: Layout = "new",
    **overrides,
) -> Path:
    """9 tokens a tile, up to 4 tiles and an overview; a class token; 6 tower layers and 6 text layers."""
    source, ids = tokenizer_of("internvl")
    config = {
        "image_token_id": ids["<IMG_CONTEXT>"],
        "image_seq_length": 9,
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "attention_bias": True,
            "image_size": [EDGE, EDGE],
            "patch_size": [14, 14],
        },
        "text_config": {"model_type": "qwen2", **text_config(ids)},
        "tie_word_embeddings": False,
    }
    config = InternVLConfig(**merged(config, overrides))
    preprocessor = json.loads((source / "preprocessor_config.json").read_text(encoding="utf-8"))
    preprocessor |= {"size": {"height": EDGE, "width": EDGE}, "max_patches": 4}
    names = ("crop_to_patches", "min_patches", "max_patches")
    video = {name: value for name, value in preprocessor.items() if name not in names}
    processor = {"processor_class": "InternVLProcessor", "image_seq_length": 9}
    model = random_model(InternVLForConditionalGeneration, config, seed, dtype, ids)
    return write(folder, model, source, layout, preprocessor, video, processor)
