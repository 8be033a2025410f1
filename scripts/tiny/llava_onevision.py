"""`tiny`: LLaVA-OneVision's architecture, a SigLIP tower over tiles of 12x12 patches and a Qwen2 decoder."""

from __future__ import annotations

from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

from tiny.labels import PATCH, TILE
from tiny.start import start_siglip

PINPOINTS = [[TILE * rows, TILE * columns] for rows in (1, 2) for columns in (1, 2)]
ASPECT = "anyres_max_9"


def build(
    ids: dict[str, int], vocabulary: int, tower: dict, text: dict
) -> LlavaOnevisionForConditionalGeneration:
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
            "vocab_size": vocabulary,
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
        vision_aspect_ratio=ASPECT,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    return LlavaOnevisionForConditionalGeneration(config)


def start(model: LlavaOnevisionForConditionalGeneration) -> None:
    start_siglip(model.model.vision_tower)


def processors(settings: dict) -> dict[str, dict]:
    """The content of each file of the processors."""
    size = {"size": {"height": TILE, "width": TILE}}
    images = settings["preprocessor"] | {"image_grid_pinpoints": PINPOINTS} | size
    images_only = ("image_grid_pinpoints", "do_pad", "image_processor_type")
    videos = {key: value for key, value in images.items() if key not in images_only}
    return {
        "preprocessor_config.json": images,
        "video_preprocessor_config.json": videos | {"video_processor_type": "LlavaOnevisionVideoProcessor"},
        "processor_config.json": {
            "processor_class": "LlavaOnevisionProcessor",
            "image_token": "<image>",
            "video_token": "<video>",
            "num_image_tokens": (TILE // PATCH) ** 2,
            "vision_aspect_ratio": ASPECT,
            "vision_feature_select_strategy": "full",
        },
    }
