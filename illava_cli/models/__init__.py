"""Model families over `transformers`' own layers, and the two loops with the merge points."""

from __future__ import annotations

from illava_cli.config import Config
from illava_cli.errors import UsageError
from illava_cli.models.catalog import model_config


def _llava_next():
    from transformers import LlavaNextForConditionalGeneration

    from illava_cli.models.llava_next import LlavaNext

    return LlavaNext, LlavaNextForConditionalGeneration


def _llava_onevision():
    from transformers import LlavaOnevisionForConditionalGeneration

    from illava_cli.models.llava_onevision import LlavaOnevision

    return LlavaOnevision, LlavaOnevisionForConditionalGeneration


def _qwen2_vl():
    from transformers import Qwen2VLForConditionalGeneration

    from illava_cli.models.qwen2_vl import Qwen2VL

    return Qwen2VL, Qwen2VLForConditionalGeneration


def _qwen2_5_vl():
    from transformers import Qwen2_5_VLForConditionalGeneration

    from illava_cli.models.qwen2_5_vl import Qwen2_5VL

    return Qwen2_5VL, Qwen2_5_VLForConditionalGeneration


# `model_type` of a checkpoint -> a function that imports its family and its stock class
FAMILIES = {
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
}


def family_class(key: str, source: str):
    """The family and the stock class of a `model_type`.

    Raises:
        UsageError: none that we know.
    """
    if key not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UsageError(f"{source} is a {key!r} model, which illava does not know (it knows: {known})")
    return FAMILIES[key]()


def schedule_key(config: Config) -> str:
    """The key of `Config.reduction_for` for a configuration's model, with nothing loaded.

    Raises:
        ModelError: a hub id whose config.json is not on this machine.
    """
    raw = model_config(config)
    family, _ = family_class(raw["model_type"], str(config.model.id))
    return family.schedule_key(raw.get("text_config", raw).get("hidden_size", 0))


__all__ = ["FAMILIES", "family_class", "schedule_key"]
