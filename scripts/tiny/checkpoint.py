"""The embedded model's files: its architecture, tokenizer and processor settings, in the hub's layout."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from make_toy_tokenizer import FAMILIES, TEXT, train, write_json, write_tokenizer
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

from illava_cli.evals.world import SCENES, documents, stream
from illava_cli.evals.world.pages import DAYS
from illava_cli.evals.world.scene import COLOURS, SHAPES, WORDS

TILE, PATCH = 96, 8
PINPOINTS = [[TILE * rows, TILE * columns] for rows in (1, 2) for columns in (1, 2)]
FAMILY = FAMILIES["llava-onevision"]
MERGES = 410


def world_text() -> str:
    """What is said in the world, for the tokenizer to learn: every word of it becomes one token."""
    lines = [word for word in (*COLOURS, *SHAPES, *WORDS, *DAYS) for _ in range(20)]
    for name, task in (SCENES | documents.TASKS).items():
        for seed in range(120):
            rng = stream(f"text/{name}", seed, "train")
            if question := task.ask(task.draw(rng), rng):
                lines += question
    return "\n".join([TEXT, *lines])


def build_tokenizer() -> Tokenizer:
    return train(FAMILY["special_tokens"], world_text(), MERGES)


def build_model(
    tokenizer: Tokenizer, seed: int, tower: dict, text: dict
) -> LlavaOnevisionForConditionalGeneration:
    """The architecture with fresh weights.

    Args:
        tower, text: values that replace those of the tower's and the decoder's configuration.
    """
    ids = {name: tokenizer.token_to_id(name) for name in FAMILY["special_tokens"]}
    config = LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 256,
            "intermediate_size": 640,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "image_size": TILE,
            "patch_size": PATCH,
            "vision_use_head": False,
            **tower,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": 256,
            "intermediate_size": 640,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 64 * -(-tokenizer.get_vocab_size() // 64),
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "tie_word_embeddings": True,
            "initializer_range": 0.04,
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            **text,
        },
        image_token_id=ids["<image>"],
        video_token_id=ids["<video>"],
        image_grid_pinpoints=PINPOINTS,
        vision_aspect_ratio="anyres_max_9",
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    config._attn_implementation = "sdpa"
    torch.manual_seed(seed)
    model = LlavaOnevisionForConditionalGeneration(config)
    ends = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=ids["<|endoftext|>"])
    return model


def load_model(folder: Path) -> tuple[LlavaOnevisionForConditionalGeneration, Tokenizer]:
    """A checkpoint that was exported, in float32."""
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    )
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))


def export(model: LlavaOnevisionForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the checkpoint as the hub's repositories hold it, weights in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    write_tokenizer(folder, tokenizer, FAMILY)
    size = {"size": {"height": TILE, "width": TILE}}
    images = FAMILY["preprocessor"] | {"image_grid_pinpoints": PINPOINTS} | size
    write_json(folder / "preprocessor_config.json", images)
    video = {
        k: v for k, v in images.items() if k not in ("image_grid_pinpoints", "do_pad", "image_processor_type")
    }
    video["video_processor_type"] = "LlavaOnevisionVideoProcessor"
    write_json(folder / "video_preprocessor_config.json", video)
    processor = {
        "processor_class": "LlavaOnevisionProcessor",
        "image_token": "<image>",
        "video_token": "<video>",
        "num_image_tokens": (TILE // PATCH) ** 2,
        "vision_aspect_ratio": "anyres_max_9",
        "vision_feature_select_strategy": "full",
    }
    write_json(folder / "processor_config.json", processor)
