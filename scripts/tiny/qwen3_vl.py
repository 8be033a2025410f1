"""`tiny-qwen`: Qwen3-VL's architecture, a tower of native resolution with DeepStack, M-RoPE and timestamps.

A third of the size of `tiny`: patches of 8 pixels, of which 2x2 make a token.
"""

from __future__ import annotations

from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from tiny.labels import PATCH, TILE
from tiny.start import start_qwen

SIDE = 2  # patches along a token
LARGEST = (2 * TILE) ** 2  # pixels of a picture, as the world's largest have
CLIP = 16 * TILE**2  # pixels of all frames of a clip, as the world's longest have


def build(ids: dict[str, int], vocabulary: int, tower: dict, text: dict) -> Qwen3VLForConditionalGeneration:
    decoder = {
        "hidden_size": 160,
        "intermediate_size": 320,
        "num_hidden_layers": 5,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "vocab_size": vocabulary,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [12, 10, 10],
            "mrope_interleaved": True,
        },
        "tie_word_embeddings": True,
        "initializer_range": 0.04,
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        **text,
    }
    config = Qwen3VLConfig(
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 320,
            "depth": 6,
            "num_heads": 2,
            "patch_size": PATCH,
            "spatial_merge_size": SIDE,
            "temporal_patch_size": 2,
            "num_position_embeddings": (TILE // PATCH) ** 2,
            "deepstack_visual_indexes": [2],
            "out_hidden_size": decoder["hidden_size"],
            **tower,
        },
        text_config=decoder,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    return Qwen3VLForConditionalGeneration(config)


def start(model: Qwen3VLForConditionalGeneration) -> None:
    start_qwen(model.model.visual)


def processors(settings: dict) -> dict[str, dict]:
    """The content of each file of the processors."""
    size = {"shortest_edge": (2 * PATCH * SIDE) ** 2, "longest_edge": LARGEST}
    images = settings["preprocessor"] | {"patch_size": PATCH, "merge_size": SIDE, "size": size}
    videos = images | {"size": size | {"longest_edge": CLIP}}
    return {"preprocessor_config.json": images, "video_preprocessor_config.json": videos}
