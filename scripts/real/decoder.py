"""The model that sees photographs: LLaVA-NeXT of the real tower, frozen, a projector and a small decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from make_toy_tokenizer import TEXT, train_llama, write_json, write_tokenizer
from tokenizers import Tokenizer
from transformers import (
    CLIPVisionModelWithProjection,
    GenerationConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
)

from real.checkpoint import FAMILY, processor_files
from real.clip import EDGE, clip_config
from real.composites import TASKS, compose, halves
from real.pictures import Stamp

MERGES = 300
WIDTH, LAYERS = 256, 6


def build_tokenizer(stamps: list[Stamp]) -> Tokenizer:
    """Learnt from questions and answers of its small world."""
    rng, lines = np.random.default_rng(0), [TEXT]
    half, _ = halves(stamps, 8)
    for _ in range(400):
        picture = compose(rng, half, stamps)
        for ask, _ in TASKS.values():
            lines += ask(picture, rng) or ()
    return train_llama(FAMILY["special_tokens"], "\n".join(lines), MERGES)


def build_model(
    tower: CLIPVisionModelWithProjection, tokenizer: Tokenizer
) -> LlavaNextForConditionalGeneration:
    """The tower's weights, and fresh ones for the rest. Features are those of the last layer but one."""
    config = LlavaNextConfig(
        vision_config=clip_config().to_dict(),
        text_config={
            "model_type": "llama",
            "hidden_size": WIDTH,
            "intermediate_size": 640,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 64 * -(-tokenizer.get_vocab_size() // 64),
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6,
            "initializer_range": 0.04,
            "tie_word_embeddings": True,
            "bos_token_id": tokenizer.token_to_id("<s>"),
            "eos_token_id": tokenizer.token_to_id("</s>"),
            "pad_token_id": tokenizer.token_to_id("<pad>"),
        },
        image_token_index=tokenizer.token_to_id("<image>"),
        image_grid_pinpoints=[[EDGE, EDGE], [EDGE, 2 * EDGE], [2 * EDGE, EDGE]],
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = LlavaNextForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(
        {name.removeprefix("vision_model."): value for name, value in tower.vision_model.state_dict().items()}
    )
    ends = tokenizer.token_to_id("</s>")
    model.generation_config = GenerationConfig(
        eos_token_id=ends, pad_token_id=config.text_config.pad_token_id
    )
    return model


def write_model(model: LlavaNextForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    """The checkpoint as the hub's repositories hold it, in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    write_tokenizer(folder, tokenizer, FAMILY)
    for name, values in processor_files(model.config.image_grid_pinpoints).items():
        write_json(folder / name, values)
