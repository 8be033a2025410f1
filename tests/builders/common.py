"""What the writers of small checkpoints share: configs, random weights, files in the hub's layout."""

import json
import math
import shutil
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, PreTrainedModel

TOKENIZERS = Path(__file__).parents[2] / "illava_cli" / "assets" / "tokenizer"
Layout = Literal["new", "old"]


def tokenizer_of(name: str) -> tuple[Path, dict[str, int]]:
    source = TOKENIZERS / name
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    return source, {token["content"]: token["id"] for token in tokenizer["added_tokens"]}


def ends(ids: dict[str, int]) -> tuple[int, int]:
    """The end of an answer, and what pads."""
    pads = {"<|im_end|>": "<|endoftext|>", "<turn|>": "<pad>", "</s>": "<pad>"}
    end = next(token for token in pads if token in ids)
    return ids[end], ids[pads[end]]


def text_config(ids: dict[str, int]) -> dict:
    end, pad = ends(ids)
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


def merged(base: dict, overrides: dict) -> dict:
    result = dict(base)
    for key, value in overrides.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if nested else value
    return result


def random_model(
    model_class: type[PreTrainedModel], config, seed: int, dtype: torch.dtype, ids: dict[str, int]
) -> PreTrainedModel:
    model = model_class(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean, std = _moments(name, parameter)
            parameter.copy_(mean + std * torch.randn(parameter.shape, generator=generator))
    end, pad = ends(ids)
    model.generation_config = GenerationConfig(eos_token_id=[end, pad], pad_token_id=pad)
    return model.to(dtype)


def _moments(name: str, parameter: torch.Tensor) -> tuple[float, float]:
    """Mean and standard deviation to draw a weight with."""
    if "norm" in name or "ln_q" in name:
        return (1.0, 0.2) if name.endswith("weight") else (0.0, 0.1)
    if "lambda_" in name:
        return 1.0, 0.2
    if "pos_embed" in name or "position_embedding" in name or "image_newline" in name:
        return 0.0, 0.5
    if parameter.ndim == 1:
        return 0.0, 0.2
    if "embed_tokens" in name or "lm_head" in name:
        return 0.0, 1.2 / math.sqrt(parameter.shape[1])
    peaked = any(part in name for part in ("q_proj", "k_proj", "qkv"))
    return 0.0, (2.0 if peaked else 1.2) / math.sqrt(parameter[0].numel())


def write(
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
        write_json(folder / "processor_config.json", processor | nested)
        return folder
    template = (source / "chat_template.jinja").read_text(encoding="utf-8")
    write_json(folder / "chat_template.json", {"chat_template": template})
    write_json(folder / "preprocessor_config.json", preprocessor)
    if video is not None:
        write_json(folder / "video_preprocessor_config.json", video)
    if len(processor) > 1:  # the hub's Qwen2-VL has no such file
        write_json(folder / "processor_config.json", processor)
    return folder


def rename_weights(path: Path, old: str, new: str) -> None:
    weights = load_file(path)
    renamed = {
        new + name.removeprefix(old) if name.startswith(old) else name: w for name, w in weights.items()
    }
    save_file(renamed, path, metadata={"format": "pt"})


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
