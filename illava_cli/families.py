"""The model families, a line each: what people call them, and where their code is. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FamilyEntry:
    """A family by its name, its class as `module.Class` below `illava_cli.models`, and its own preset."""

    name: str
    code: str
    preset: str
    schedules: str | None = None  # another one, whose schedules it takes


# by the `model_type` of a checkpoint
FAMILIES = {
    "gemma4": FamilyEntry("Gemma 4", "gemma4.Gemma4", "gemma-4"),
    "internvl": FamilyEntry("InternVL", "internvl.InternVL", "internvl"),
    "llava_next": FamilyEntry("LLaVA-NeXT", "llava_next.LlavaNext", "llava-next"),
    "llava_onevision": FamilyEntry("LLaVA-OneVision", "llava_onevision.LlavaOnevision", "paper"),
    "qwen2_vl": FamilyEntry("Qwen2-VL", "qwen2_vl.Qwen2VL", "qwen2-vl"),
    "qwen2_5_vl": FamilyEntry("Qwen2.5-VL", "qwen2_5_vl.Qwen2_5VL", "qwen2.5-vl"),
    "qwen3_vl": FamilyEntry("Qwen3-VL", "qwen3_vl.Qwen3VL", "qwen3-vl"),
    "qwen3_5": FamilyEntry("Qwen3.5", "qwen3_5.Qwen3_5", "qwen3.5"),
    "qwen3_5_moe": FamilyEntry("Qwen3.5-MoE", "qwen3_5.Qwen3_5Moe", "qwen3.5", "qwen3_5"),
    "qwen3_vl_moe": FamilyEntry("Qwen3-VL-MoE", "qwen3_vl.Qwen3VLMoe", "qwen3-vl", "qwen3_vl"),
}


def family_name(schedule_key: str) -> str:
    """What people call the models of a schedule key, which is a `model_type` or that and a size."""
    fitting = [key for key in FAMILIES if schedule_key.startswith(key)]
    return FAMILIES[max(fitting, key=len)].name if fitting else schedule_key
