"""The model families, a line each: what people call them, and where their code is. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FamilyEntry:
    """A family by its name, its class as `module.Class` below `illava_cli.models`, and its own preset."""

    name: str
    code: str
    preset: str


# by the `model_type` of a checkpoint
FAMILIES = {
    "llava_next": FamilyEntry("LLaVA-NeXT", "llava_next.LlavaNext", "llava-next"),
    "llava_onevision": FamilyEntry("LLaVA-OneVision", "llava_onevision.LlavaOnevision", "paper"),
    "qwen2_vl": FamilyEntry("Qwen2-VL", "qwen2_vl.Qwen2VL", "qwen2-vl"),
    "qwen2_5_vl": FamilyEntry("Qwen2.5-VL", "qwen2_5_vl.Qwen2_5VL", "qwen2.5-vl"),
}


def family_name(schedule_key: str) -> str:
    """What people call the models of a schedule key, which is a `model_type` or that and a size."""
    return next((entry.name for key, entry in FAMILIES.items() if schedule_key.startswith(key)), schedule_key)
