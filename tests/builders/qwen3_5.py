"""Small Qwen3.5 checkpoints, dense and with experts."""

from pathlib import Path

from transformers import (
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
)

from tests.builders.qwen3_vl import write_qwen3

# full attention in layers 1, 3 and 5 of 6, so that tokens may merge before 2 and 4
TEXT = {
    "head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    "layer_types": ["linear_attention", "full_attention"] * 3,
    "rope_parameters": {
        "partial_rotary_factor": 0.5,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
    },
}


def write_qwen3_5(folder: str | Path, **settings) -> Path:
    """9 to 36 tokens an image; 6 tower layers and 6 text layers, every other one linear."""
    return write_qwen3(folder, Qwen3_5Config, Qwen3_5ForConditionalGeneration, TEXT, "qwen3.5", **settings)


def write_qwen3_5_moe(folder: str | Path, **settings) -> Path:
    """As `write_qwen3_5`, with 4 experts of which 2 work, and one that always does."""
    experts = {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 48,
        "shared_expert_intermediate_size": 32,
    }
    classes = Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration
    return write_qwen3(folder, *classes, TEXT | experts, "qwen3.5", **settings)
