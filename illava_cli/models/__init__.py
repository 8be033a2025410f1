"""Model families over `transformers`' own layers, and the two loops with the merge points."""

from __future__ import annotations

from illava_cli.models.catalog import family_of


def _llava_onevision():
    from transformers import LlavaOnevisionForConditionalGeneration

    from illava_cli.models.llava_onevision import LlavaOnevision

    return LlavaOnevision, LlavaOnevisionForConditionalGeneration


def _qwen2_vl():
    from transformers import Qwen2VLForConditionalGeneration

    from illava_cli.models.qwen2_vl import Qwen2VL

    return Qwen2VL, Qwen2VLForConditionalGeneration


# `model_type` of a checkpoint -> a function that imports its family and its stock class
FAMILIES = {"llava_onevision": _llava_onevision, "qwen2_vl": _qwen2_vl}

__all__ = ["FAMILIES", "family_of"]
