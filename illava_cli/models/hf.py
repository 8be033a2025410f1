"""The one seam to transformers' inner modules: what its releases move or rename has one place and name here.

What transformers exports at its top is imported from there. Supported are the releases within the range of
pyproject.toml; both ends of it are tested, and tests/models/test_hf.py says what is relied on of each name.
"""

from __future__ import annotations

import inspect
from collections import UserDict
from importlib import import_module
from typing import Any

import torch
import transformers
from transformers import cache_utils
from transformers.masking_utils import create_causal_mask

# name -> the module below `transformers` that has it, `:` and its name there where that is another; imported
# when it is asked for, as most import a model
INNER = {
    "ALL_ATTENTION_FUNCTIONS": "modeling_utils",
    "CLIPImageProcessorPil": "models.clip.image_processing_pil_clip",
    "ChannelDimension": "image_utils",
    "Gemma4ImageProcessorPil": "models.gemma4.image_processing_pil_gemma4",
    "GotOcr2ImageProcessorPil": "models.got_ocr2.image_processing_pil_got_ocr2",
    "LlavaNextImageProcessorPil": "models.llava_next.image_processing_pil_llava_next",
    "LlavaOnevisionImageProcessorPil": "models.llava_onevision.image_processing_pil_llava_onevision",
    "Qwen2DecoderLayer": "models.qwen2.modeling_qwen2",
    "Qwen2RotaryEmbedding": "models.qwen2.modeling_qwen2",
    "Qwen2VLImageProcessorPil": "models.qwen2_vl.image_processing_pil_qwen2_vl",
    "SiglipEncoderLayer": "models.siglip.modeling_siglip",
    "ViTImageProcessorPil": "models.vit.image_processing_pil_vit",
    "apply_rotary_pos_emb": "models.qwen2.modeling_qwen2",
    "get_anyres_image_grid_shape": "models.llava_onevision.modeling_llava_onevision",
    "get_aspect_ratio_preserving_size": "models.gemma4.image_processing_pil_gemma4",
    "get_optimal_tiled_canvas": "models.got_ocr2.image_processing_pil_got_ocr2",
    "get_patch_output_size": "image_processing_utils",
    "get_vision_interpolation_indices_and_weights": "vision_utils",
    "get_vision_position_ids": "vision_utils",
    "no_init_weights": "initialization",
    "select_best_resolution": "image_processing_utils",
    "smart_resize": "models.qwen2_vl.image_processing_pil_qwen2_vl",
    "unpad_image": "models.llava_onevision.modeling_llava_onevision",
    "video_smart_resize": "models.qwen3_vl.video_processing_qwen3_vl:smart_resize",
}

# how a decoder's layers call the KV cache: 5.24 renamed it
CACHE = "cache" if "cache" in inspect.signature(create_causal_mask).parameters else "past_key_values"
# where layers leave keys and values for later ones; a plain dict would be copied on its way through hooks
KVSharingDict = getattr(cache_utils, "KVSharingDict", UserDict)


def __getattr__(name: str) -> Any:
    if name not in INNER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module, _, there = INNER[name].partition(":")
        return getattr(import_module(f"transformers.{module}"), there or name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"transformers.{INNER[name]} has no {name}: not a tested release ({versions()})"
        ) from error


def versions() -> str:
    """The releases that a model runs on, for messages."""
    return f"transformers {transformers.__version__}, torch {torch.__version__}"
