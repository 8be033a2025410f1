"""The seam to transformers: what its releases name differently has one name here.

Supported are the releases within the range of pyproject.toml; both ends of it are tested.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import transformers
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast

# how the decoders, their layers, `generate` and outputs call the KV cache: 5.24 renamed it
CACHE = "cache" if "cache" in inspect.signature(create_causal_mask).parameters else "past_key_values"


def cache_of(arguments: dict[str, Any]) -> Any:
    """The KV cache among a call's arguments, under either name; None where there is none."""
    caches = (arguments.get(name) for name in ("cache", "past_key_values"))
    return next((cache for cache in caches if cache is not None), None)


def versions() -> str:
    """The releases that a model runs on, for messages."""
    return f"transformers {transformers.__version__}, torch {torch.__version__}"


__all__ = ["CACHE", "BaseModelOutputWithPast", "cache_of", "create_causal_mask", "versions"]
