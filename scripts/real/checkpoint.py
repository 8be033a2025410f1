"""The real tower in a checkpoint of LLaVA-NeXT's layout, which `illava` loads; its decoder is random."""

from __future__ import annotations

from pathlib import Path

import torch
from make_toy_tokenizer import FAMILIES, write_json, write_tokenizer
from tokenizers import Tokenizer
from transformers import CLIPVisionModelWithProjection, LlavaNextConfig, LlavaNextForConditionalGeneration

from real.clip import EDGE, MEAN, PATCH, STD, clip_config

FAMILY = FAMILIES["llava-next"]
TOKENIZER = Path(__file__).parents[2] / "illava_cli/assets/tokenizer/llava-next/tokenizer.json"


def write_checkpoint(tower: CLIPVisionModelWithProjection, folder: Path) -> None:
    """All twelve layers of the tower make the features; its projection into the space of texts is no part."""
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    config = LlavaNextConfig(
        vision_config=clip_config().to_dict(),
        text_config={
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "vocab_size": 64 * -(-tokenizer.get_vocab_size() // 64),
        },
        image_token_index=tokenizer.token_to_id("<image>"),
        image_grid_pinpoints=[[EDGE, EDGE], [EDGE, 2 * EDGE], [2 * EDGE, EDGE]],
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    torch.manual_seed(0)
    model = LlavaNextForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(
        {name.removeprefix("vision_model."): value for name, value in tower.vision_model.state_dict().items()}
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    write_tokenizer(folder, tokenizer, FAMILY)
    for name, values in processor_files(config.image_grid_pinpoints).items():
        write_json(folder / name, values)


def processor_files(pinpoints: list[list[int]]) -> dict[str, dict]:
    """By name what says how pictures are taken: squares of the tower's own size."""
    pixels = {
        "size": {"shortest_edge": EDGE},
        "crop_size": {"height": EDGE, "width": EDGE},
        "image_mean": MEAN,
        "image_std": STD,
        "image_grid_pinpoints": pinpoints,
    }
    processor = {
        "processor_class": "LlavaNextProcessor",
        "image_token": "<image>",
        "patch_size": PATCH,
        "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": "default",
    }
    return {
        "preprocessor_config.json": FAMILY["preprocessor"] | pixels,
        "processor_config.json": processor,
    }
