"""Small random checkpoints in the hub's file layout, so that every test runs with no download.

    write_llava_next(folder, text_config={"model_type": "mistral"})
    write_llava_onevision(folder, layout="old", text_config={"num_hidden_layers": 4})
    write_qwen2_vl(folder, seed=1, tie_word_embeddings=True)

`layout="new"` is what transformers 5 writes; `layout="old"` is what the hub's repositories hold: flat
processor files, `chat_template.json`, and the older config and weight names. Weights are drawn wide:
attention is peaked, and logits have a standard deviation near 1. So a changed image, position or merge
decision shows in the logits. Anything in `overrides` replaces a config value, nested or not.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    GenerationConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

TOKENIZERS = Path(__file__).parents[1] / "illava_cli" / "assets" / "tokenizer"
TILE = 84  # 6x6 patches
GRIDS = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3), (4, 1)]
PINPOINTS = [[TILE * rows, TILE * cols] for rows, cols in GRIDS]
NEXT_PINPOINTS = [[TILE * rows, TILE * cols] for rows, cols in [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)]]
Layout = Literal["new", "old"]


def write_llava_next(
    folder: str | Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    layout: Layout = "new",
    **overrides,
) -> Path:
    """6x6 tokens and a class token a tile, up to 2x2 tiles; 6 of 7 tower layers and 6 text layers count."""
    source, ids = _tokenizer("llava-next")
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
        "text_config": {"model_type": "llama", "sliding_window": None, **_text_config(ids)},
    }
    config = LlavaNextConfig(**_merge(config, overrides))
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
    model = _random_model(LlavaNextForConditionalGeneration, config, seed, dtype, ids)
    folder = _write(folder, model, source, layout, preprocessor, None, processor)
    if layout == "old":
        _rename_weights(folder / "model.safetensors", "vision_tower.", "vision_tower.vision_model.")
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
    source, ids = _tokenizer("llava-onevision")
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
        "text_config": {"model_type": "qwen2", **_text_config(ids)},
    }
    config = LlavaOnevisionConfig(**_merge(config, overrides))
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
    model = _random_model(LlavaOnevisionForConditionalGeneration, config, seed, dtype, ids)
    folder = _write(folder, model, source, layout, preprocessor, video, processor)
    if layout == "old":
        _rename_weights(folder / "model.safetensors", "vision_tower.", "vision_tower.vision_model.")
    return folder


def write_qwen2_vl(folder: str | Path, **settings) -> Path:
    """1 to 36 tokens an image or pair of frames; 6 tower and 6 text layers."""
    vision = {"depth": 6, "embed_dim": 32, "num_heads": 4, "hidden_size": 32}
    return _write_qwen(folder, Qwen2VLConfig, Qwen2VLForConditionalGeneration, vision, **settings)


def write_qwen2_5_vl(folder: str | Path, **settings) -> Path:
    """As `write_qwen2_vl`, in windows of 2x2 tokens but for layers 1 and 4 of the tower."""
    vision = {
        "depth": 6,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "out_hidden_size": 32,
        "window_size": 56,
        "fullatt_block_indexes": [1, 4],
        "tokens_per_second": 2,
    }
    return _write_qwen(folder, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, vision, **settings)


def _write_qwen(
    folder: str | Path,
    config_class: type,
    model_class: type[PreTrainedModel],
    vision: dict,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    layout: Layout = "new",
    min_pixels: int = 28 * 28,
    max_pixels: int = 28 * 28 * 36,
    **overrides,
) -> Path:
    source, ids = _tokenizer("qwen2-vl")
    config = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_config": vision,
        "text_config": _merge(_text_config(ids), {"rope_parameters": {"mrope_section": [1, 1, 2]}}),
    }
    config = config_class(**_merge(config, overrides))
    preprocessor = json.loads((source / "preprocessor_config.json").read_text(encoding="utf-8"))
    preprocessor |= {"min_pixels": min_pixels, "max_pixels": max_pixels}
    if layout == "new":
        preprocessor["size"] = {
            "shortest_edge": preprocessor.pop("min_pixels"),
            "longest_edge": preprocessor.pop("max_pixels"),
        }
    model = _random_model(model_class, config, seed, dtype, ids)
    processor = {"processor_class": "Qwen2VLProcessor"}
    folder = _write(folder, model, source, layout, preprocessor, dict(preprocessor), processor)
    if layout == "old":
        _flatten_qwen_config(folder / "config.json")
    return folder


def _tokenizer(name: str) -> tuple[Path, dict[str, int]]:
    source = TOKENIZERS / name
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    return source, {token["content"]: token["id"] for token in tokenizer["added_tokens"]}


def _ends(ids: dict[str, int]) -> tuple[int, int]:
    """The end of an answer, and what pads."""
    end, pad = ("<|im_end|>", "<|endoftext|>") if "<|im_end|>" in ids else ("</s>", "<pad>")
    return ids[end], ids[pad]


def _text_config(ids: dict[str, int]) -> dict:
    end, pad = _ends(ids)
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 64 * math.ceil((max(ids.values()) + 1) / 64),
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        # Four rotary frequencies a head: a low base, or most of them would not tell positions apart.
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": pad,
    }


def _merge(base: dict, overrides: dict) -> dict:
    result = dict(base)
    for key, value in overrides.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = _merge(base[key], value) if nested else value
    return result


def _random_model(
    model_class: type[PreTrainedModel], config, seed: int, dtype: torch.dtype, ids: dict[str, int]
) -> PreTrainedModel:
    model = model_class(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean, std = _moments(name, parameter)
            parameter.copy_(mean + std * torch.randn(parameter.shape, generator=generator))
    end, pad = _ends(ids)
    model.generation_config = GenerationConfig(eos_token_id=[end, pad], pad_token_id=pad)
    return model.to(dtype)


def _moments(name: str, parameter: torch.Tensor) -> tuple[float, float]:
    """Mean and standard deviation to draw a weight with."""
    if "norm" in name or "ln_q" in name:
        return (1.0, 0.2) if name.endswith("weight") else (0.0, 0.1)
    if "position_embedding" in name or "image_newline" in name:
        return 0.0, 0.5
    if parameter.ndim == 1:
        return 0.0, 0.2
    if "embed_tokens" in name or "lm_head" in name:
        return 0.0, 1.2 / math.sqrt(parameter.shape[1])
    peaked = any(part in name for part in ("q_proj", "k_proj", "qkv"))
    return 0.0, (2.0 if peaked else 1.2) / math.sqrt(parameter[0].numel())


def _write(
    folder: str | Path,
    model: PreTrainedModel,
    source: Path,
    layout: Layout,
    preprocessor: dict,
    video: dict | None,
    processor: dict,
) -> Path:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, folder / name)
    nested = {"image_processor": preprocessor}
    if video is not None:
        video.pop("image_processor_type")
        video["video_processor_type"] = processor["processor_class"].replace("Processor", "VideoProcessor")
        nested["video_processor"] = video
    if layout == "new":
        shutil.copyfile(source / "chat_template.jinja", folder / "chat_template.jinja")
        _write_json(folder / "processor_config.json", processor | nested)
        return folder
    template = (source / "chat_template.jinja").read_text(encoding="utf-8")
    _write_json(folder / "chat_template.json", {"chat_template": template})
    _write_json(folder / "preprocessor_config.json", preprocessor)
    if video is not None:
        _write_json(folder / "video_preprocessor_config.json", video)
    if len(processor) > 1:  # the hub's Qwen2-VL has no such file
        _write_json(folder / "processor_config.json", processor)
    return folder


def _rename_weights(path: Path, old: str, new: str) -> None:
    weights = load_file(path)
    renamed = {
        new + name.removeprefix(old) if name.startswith(old) else name: w for name, w in weights.items()
    }
    save_file(renamed, path, metadata={"format": "pt"})


def _flatten_qwen_config(path: Path) -> None:
    """The hub's Qwen2-VL: text values at the top level, and rope in two keys."""
    config = json.loads(path.read_text(encoding="utf-8"))
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    vision = config["vision_config"]
    for key in ("model_type", "layer_types"):
        text.pop(key, None)
    for key in ("model_type", "rope_parameters", "initializer_range"):
        vision.pop(key, None)
    vision |= {"in_chans": vision.pop("in_channels"), "spatial_patch_size": vision["patch_size"]}
    config |= text
    config["rope_theta"] = rope["rope_theta"]
    config["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    config["torch_dtype"] = config.pop("dtype")
    _write_json(path, config)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
