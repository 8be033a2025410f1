"""Small Gemma 4 checkpoints: as the small models, with embeddings of each layer, and as the large ones."""

import json
from pathlib import Path

import torch
from transformers import Gemma4Config, Gemma4ForConditionalGeneration

from tests.builders.common import Layout, merged, random_model, text_config, tokenizer_of, write

ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 100.0},
}
# layers 3 to 5 look at the keys of 1 and 2
SMALL = {
    "hidden_size_per_layer_input": 4,
    "vocab_size_per_layer_input": 512,
    "num_kv_shared_layers": 3,
    "use_double_wide_mlp": True,
}
LARGE = {
    "hidden_size_per_layer_input": 0,
    "attention_k_eq_v": True,
    "num_global_key_value_heads": 1,
    "use_bidirectional_attention": "vision",
    "enable_moe_block": True,
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 24,
}


def write_gemma4(
    folder: str | Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    layout: Layout = "new",
    large: bool = False,
    window: int = 24,
    **overrides,
) -> Path:
    """Up to 70 tokens an image or frame; 6 tower layers, and 6 text layers of which 2 see all."""
    source, ids = tokenizer_of("gemma-4")
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    text = {"head_dim": 8, "global_head_dim": 16, "sliding_window": window, "layer_types": kinds}
    text |= {"rope_parameters": ROPE, "final_logit_softcapping": 5.0, "bos_token_id": ids["<bos>"]}
    text |= LARGE if large else SMALL
    config = {
        "image_token_id": ids["<|image|>"],
        "video_token_id": ids["<|video|>"],
        "audio_token_id": ids["<|audio|>"],
        "boi_token_id": ids["<|image>"],
        "eoi_token_id": ids["<image|>"],
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "position_embedding_size": 256,
            "standardize": large,
            "use_clipped_linears": not large,
        },
        "audio_config": None,
        "text_config": merged(text_config(ids), text) | {"rope_parameters": ROPE},
        "tie_word_embeddings": True,
    }
    config = Gemma4Config(**merged(config, overrides))
    preprocessor = json.loads((source / "preprocessor_config.json").read_text(encoding="utf-8"))
    video = json.loads((source / "video_preprocessor_config.json").read_text(encoding="utf-8"))
    preprocessor["max_soft_tokens"] = 70
    model = random_model(Gemma4ForConditionalGeneration, config, seed, dtype, ids)
    _fill_buffers(model, seed)
    processor = {"processor_class": "Gemma4Processor", "image_seq_length": 70}
    return write(folder, model, source, layout, preprocessor, video, processor)


def _fill_buffers(model: Gemma4ForConditionalGeneration, seed: int) -> None:
    """What a checkpoint holds beside parameters: bounds of the tower's products, scales."""
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in model.named_buffers():
        end = name.rpartition(".")[2]
        if end in ("input_min", "output_min"):
            buffer.fill_(-2.5)
        elif end in ("input_max", "output_max"):
            buffer.fill_(2.5)
        elif end in ("layer_scalar", "std_scale"):
            buffer.copy_(1 + 0.2 * torch.randn(buffer.shape, generator=generator))
        elif end == "std_bias":
            buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))
