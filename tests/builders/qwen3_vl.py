"""Small Qwen3-VL checkpoints, dense and with experts."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    PreTrainedModel,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)

from tests.builders.common import Layout, merged, random_model, text_config, tokenizer_of, write, write_json

TEXT = {"head_dim": 8, "rope_parameters": {"mrope_section": [2, 1, 1], "mrope_interleaved": True}}


def write_qwen3_vl(folder: str | Path, **settings) -> Path:
    """9 to 36 tokens an image; 6 tower layers, of which 3 are tapped, and 6 text layers."""
    return write_qwen3(folder, Qwen3VLConfig, Qwen3VLForConditionalGeneration, TEXT, **settings)


def write_qwen3_vl_moe(folder: str | Path, **settings) -> Path:
    """As `write_qwen3_vl`, with 4 experts of which 2 work."""
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
    classes = Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration
    return write_qwen3(folder, *classes, TEXT | experts, **settings)


def write_qwen3(
    folder: str | Path,
    config_class: type,
    model_class: type[PreTrainedModel],
    text: dict,
    family: str = "qwen3-vl",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    layout: Layout = "new",
    min_pixels: int = 32 * 32 * 9,
    max_pixels: int = 32 * 32 * 36,
    video_pixels: tuple[int, int] = (4 * 32 * 32, 6 * 32 * 32 * 20),
    **overrides,
) -> Path:
    """A checkpoint with Qwen3-VL's processors; only its own tower has layers that are tapped."""
    source, ids = tokenizer_of(family)
    taps = {"deepstack_visual_indexes": [1, 3, 4]} if family == "qwen3-vl" else {}
    config = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_config": {
            "depth": 6,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 32,
            "num_position_embeddings": 36,
            **taps,
        },
        "text_config": merged(text_config(ids), text),
    }
    config = config_class(**merged(config, overrides))
    preprocessor = json.loads((source / "preprocessor_config.json").read_text(encoding="utf-8"))
    preprocessor["size"] = {"shortest_edge": min_pixels, "longest_edge": max_pixels}
    least, most = video_pixels
    video = preprocessor | {"size": {"shortest_edge": least, "longest_edge": most}}
    model = random_model(model_class, config, seed, dtype, ids)
    folder = write(
        folder, model, source, layout, preprocessor, video, {"processor_class": "Qwen3VLProcessor"}
    )
    if layout == "old":
        _as_on_the_hub(folder / "config.json")
        if family == "qwen3-vl":
            _experts_as_on_the_hub(folder / "model.safetensors")
    return folder


def _as_on_the_hub(path: Path) -> None:
    """The tower under the whole model's type, and rope in two keys."""
    config = json.loads(path.read_text(encoding="utf-8"))
    text, vision = config["text_config"], config["vision_config"]
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope.pop("rope_theta")
    text["rope_scaling"] = rope
    vision["model_type"] = config["model_type"]
    vision.pop("rope_parameters", None)
    write_json(path, config)


def _experts_as_on_the_hub(path: Path) -> None:
    """Qwen3-VL's with inputs before outputs."""
    weights = load_file(path)
    turned = {name: x.mT.contiguous() for name, x in weights.items() if ".experts." in name}
    if turned:
        save_file(weights | turned, path, metadata={"format": "pt"})
