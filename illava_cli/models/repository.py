"""Checkpoints of the LLaVA-NeXT repository (the `llava` package's own layout), read as they are.

Their `config.json` is the decoder's with `mm_*` fields in it, and their weights have the names of that
package's modules. Both are translated to `transformers`' classes while they load; nothing is written.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from illava_cli.errors import ModelError, UsageError
from illava_cli.models.conversations import CONVERSATIONS, conversation

# a weight's name there -> here; `lm_head` and `model.image_newline` are called alike
KEY_MAPPING = {
    r"^model\.vision_tower\.vision_tower\.vision_model\.": "model.vision_tower.",
    r"^model\.mm_projector\.0\.": "model.multi_modal_projector.linear_1.",
    r"^model\.mm_projector\.2\.": "model.multi_modal_projector.linear_2.",
    r"^model\.(embed_tokens|layers|norm)\.": r"model.language_model.\1.",
}
DECODERS = {
    "LlavaLlamaForCausalLM": "llama",
    "LlavaMistralForCausalLM": "mistral",
    "LlavaQwenForCausalLM": "qwen2",
}
TEXT_FIELDS = (
    "attention_bias",
    "bos_token_id",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "max_window_layers",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rms_norm_eps",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "use_sliding_window",
    "vocab_size",
)
# the towers of the published checkpoints, whose weights these hold; any other is named by its directory
PUBLISHED_TOWERS = {
    "openai/clip-vit-large-patch14-336": {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "projection_dim": 768,
    },
    "google/siglip-so400m-patch14-384": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
    },
}
# what `transformers`' models do, of what the repository's can do
SUPPORTED: dict[str, tuple] = {
    "mm_projector_type": ("mlp2x_gelu",),
    "mm_patch_merge_type": ("spatial_unpad",),
    "mm_resampler_type": (None,),
    "mm_use_im_start_end": (False, None),
    "mm_vision_select_feature": ("patch",),
    "mm_spatial_pool_mode": ("bilinear", None),
    "mm_newline_position": ("one_token", "grid"),
    "add_faster_video": (False, None),
    "s2": (False, None),
}
# what the repository takes where a config says nothing, if it is not the first of those
UNSAID = {"mm_projector_type": "linear", "mm_patch_merge_type": "flat"}
# defaults of the slow Llama tokenizer, with which the repository reads its checkpoints
SLOW_LLAMA = {"add_bos_token": True, "legacy": True}
PIXEL_MEANS = {
    "clip_vision_model": {
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "siglip_vision_model": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3},
}


def is_repository(config: dict) -> bool:
    """Whether a config.json is of the repository's layout."""
    return bool(config.get("mm_vision_tower"))


def translate(config: dict, source: str) -> dict[str, Any]:
    """A config.json of the repository as one of `transformers`, `model_type` included.

    `mm_vision_tower` stays in it, which says where it comes from, and so does `mm_newline_position`.

    Raises:
        UsageError: a decoder that we do not know.
        ModelError: something that `transformers`' models do not do.
    """
    architecture = (config.get("architectures") or [None])[0]
    if architecture not in DECODERS:
        known = ", ".join(DECODERS)
        raise UsageError(
            f"{source} is a {architecture} of the LLaVA repository, which illava does not know "
            f"(it knows: {known})"
        )
    for name, values in SUPPORTED.items():
        value = config.get(name, UNSAID.get(name, values[0]))
        if value not in values:
            unsaid = "" if name in config else " (its config.json names none, which means that)"
            able = " or ".join(repr(v) for v in values if v is not None) or None
            raise ModelError(f"{source}: {name} {value!r}{unsaid} is not supported, only {able}")
    vision = _tower(config["mm_vision_tower"], source)
    siglip = vision["model_type"] == "siglip_vision_model"
    text = {name: config[name] for name in TEXT_FIELDS if name in config}
    aspect = str(config.get("image_aspect_ratio"))
    if aspect != "anyres" and not re.fullmatch(r"anyres_max_\d+", aspect):
        raise ModelError(f"{source}: image_aspect_ratio {aspect!r} is not supported, only anyres")
    video = {}
    if aspect != "anyres":
        newlines = config.get("mm_newline_position", "one_token")
        video = {"vision_aspect_ratio": aspect, "mm_newline_position": newlines}
    return {
        "model_type": "llava_next" if aspect == "anyres" else "llava_onevision",
        "text_config": {"model_type": DECODERS[architecture], **text},
        "vision_config": vision,
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        # the repository deletes SigLIP's last layer and takes what then is last, whatever the config says
        "vision_feature_layer": -1 if siglip else config.get("mm_vision_select_layer", -2),
        "vision_feature_select_strategy": "full" if siglip else "default",
        "image_grid_pinpoints": _pinpoints(config.get("image_grid_pinpoints"), vision["image_size"], source),
        "mm_vision_tower": config["mm_vision_tower"],
        **video,
    }


def _tower(name: str, source: str) -> dict[str, Any]:
    """The vision config of `mm_vision_tower`, without the layers that the repository leaves out.

    A relative directory is seen from the checkpoint `source`, wherever it is called from.
    """
    path = Path(source) / name / "config.json"
    if name in PUBLISHED_TOWERS:
        tower = PUBLISHED_TOWERS[name]
    elif path.is_file():
        try:
            tower = json.loads(path.read_text(encoding="utf-8"))
            tower = tower.get("vision_config", tower)
            int(tower["num_hidden_layers"]), int(tower["image_size"])
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            raise ModelError(f"{path} cannot be read as the configuration of a vision tower") from None
    else:
        raise ModelError(
            f"{source}: its vision tower {name} is not known (known are: {', '.join(PUBLISHED_TOWERS)}): let "
            "mm_vision_tower in its config.json name a directory (seen from the checkpoint) with that "
            "tower's config.json"
        )
    kind = tower.get("model_type")
    if kind not in PIXEL_MEANS:
        raise ModelError(f"{source}: a vision tower of type {kind!r} is not supported, only CLIP and SigLIP")
    if kind == "siglip_vision_model":
        layers = tower["num_hidden_layers"] - 1
        return {**tower, "num_hidden_layers": layers, "vision_use_head": False}
    return dict(tower)


def _pinpoints(value: Any, tile: int, source: str) -> list[list[int]]:
    """Resolutions (height, width) from a list of (width, height), or its text, or "(1x1),...,(6x6)" tiles."""
    if value is None:
        raise ModelError(
            f"{source}: its config.json names no image_grid_pinpoints, "
            "the resolutions that images are tiled to"
        )
    if isinstance(value, str) and (ends := re.findall(r"\((\d+)x(\d+)\)", value)):
        (first, other), (last, final) = (map(int, ends[i]) for i in (0, -1))
        value = [
            [width * tile, height * tile]
            for width in range(first, last + 1)
            for height in range(other, final + 1)
        ]
    try:
        value = ast.literal_eval(value) if isinstance(value, str) else value
        return [[int(height), int(width)] for width, height in value]
    except (SyntaxError, TypeError, ValueError):
        raise ModelError(f"{source}: image_grid_pinpoints {value!r} cannot be read") from None


def image_settings(config: dict) -> dict[str, Any]:
    """Settings of the image processor, which these checkpoints do not bring."""
    vision = config["vision_config"]
    size = {"height": vision["image_size"], "width": vision["image_size"]}
    pinpoints = {"image_grid_pinpoints": config["image_grid_pinpoints"]}
    return {"size": size, "crop_size": size, **pinpoints, **PIXEL_MEANS[vision["model_type"]]}


def slow_tokenizer(folder: Path, config: dict, settings: dict):
    """The tokenizer of a checkpoint without `tokenizer.json`: its decoder says the class, "llava" does not.

    Args:
        settings: its tokenizer_config.json.
    """
    from transformers import LlamaTokenizer, Qwen2Tokenizer

    if config["text_config"]["model_type"] == "qwen2":
        return Qwen2Tokenizer.from_pretrained(folder)
    unsaid = {name: value for name, value in SLOW_LLAMA.items() if settings.get(name) is None}
    return LlamaTokenizer.from_pretrained(folder, **unsaid)


def prepare_tokenizer(tokenizer, config: dict) -> dict[str, int]:
    """Give a tokenizer the placeholders and the conversation format that the repository has in its code.

    Returns the ids of the placeholders. They may lie outside the vocabulary: media take their places
    before anything is embedded.
    """
    kinds = ("image",) if config["model_type"] == "llava_next" else ("image", "video")
    marks = [AddedToken(f"<{kind}>", special=True, normalized=False) for kind in kinds]
    tokenizer.add_tokens(marks, special_tokens=True)
    name = conversation(config["text_config"]["model_type"], tokenizer.get_vocab())
    tokenizer.chat_template = CONVERSATIONS[name]
    return {f"{kind}_token_index": tokenizer.convert_tokens_to_ids(f"<{kind}>") for kind in kinds}
