"""`Config`: all settings of a run as one value, its identity, and the reduction that it amounts to."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

from illava_cli.config.options import (
    LATER,
    LATER_IN_PRESETS,
    LATER_MEDIA,
    GenerationOptions,
    MediaOptions,
    ModelOptions,
)
from illava_cli.config.places import shipped
from illava_cli.config.presets import STAGES, load_preset, overridden, preset_label, preset_names
from illava_cli.config.reading import read_yaml, validate
from illava_cli.config.stages import Reduction, ReductionSettings
from illava_cli.config.values import PresetName
from illava_cli.errors import UsageError
from illava_cli.families import family_name

DRAWS = 2  # edition of the random numbers: a sampled answer follows them, a greedy one does not


class Config(ReductionSettings):
    """Everything that decides an answer but the prompt and the media."""

    model: ModelOptions = ModelOptions()
    preset: PresetName = "auto"
    media: MediaOptions = MediaOptions()
    generation: GenerationOptions = GenerationOptions()

    def identity(self) -> dict[str, Any]:
        """All settings and the preset's content: two runs with the same answer the same."""
        groups = {"model", "preset", "media", "generation"}
        data = self.model_dump(mode="json", include=groups)
        del data["media"]["media_timeout"]  # it decides whether there is an answer, not which
        for name in LATER_MEDIA:
            if getattr(self.media, name) is None:
                del data["media"][name]
        if self.model.schedule in (None, _shipped_schedules().get(self.model.id)):
            del data["model"]["schedule"]
        for name in LATER:
            if getattr(self.generation, name) == GenerationOptions.model_fields[name].default:
                del data["generation"][name]
        if self.generation.temperature:
            data["draws"] = DRAWS
        # only what was set overrides a preset; `vision: null` switches off, an absent `vision` does not
        data["overrides"] = self.model_dump(mode="json", exclude=groups, exclude_unset=True)
        # whom a preset is for, and how it is described, changes nothing in what it does
        words = {"families": True, "description": True, "reduction": {"description"}}
        words["by_family"] = {"__all__": {"description"}}
        data["schedule"] = schedule = load_preset(self.preset).model_dump(mode="json", exclude=words)
        for part in (schedule, schedule["reduction"] or {}, *(schedule["by_family"] or {}).values()):
            for name in LATER_IN_PRESETS:
                if part.get(name) is None:
                    part.pop(name, None)
        return data

    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of `identity()`."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:12]

    def _refuse_two_methods(self) -> None:
        for name in STAGES:
            stage = getattr(self, name)
            stages = [stage, *(getattr(stage, kind, None) for kind in ("image", "video"))]
            if self.method and any(s is not None and "method" in s.model_fields_set for s in stages):
                raise UsageError(
                    f"method is for all stages, and {name}.method is given as well: leave one out"
                )

    def reduction_for(self, family: str) -> Reduction:
        """The preset's reduction for `family` (a key such as `qwen2_vl`) with this file's overrides.

        Raises:
            UsageError: the preset is for other families.
        """
        preset = load_preset(self.preset)
        if preset.families is not None and family not in preset.families:
            names = dict.fromkeys(map(family_name, preset.families))
            fitting = [name for name in preset_names() if family in (load_preset(name).families or ())]
            raise UsageError(
                f"preset {preset_label(self.preset)!r} is for {' and '.join(names)}: "
                f"use {' or '.join([*fitting, 'auto'])}"
            )
        base = (preset.by_family or {}).get(family, preset.reduction)
        if base is None:
            raise UsageError(f"preset {self.preset!r} has no schedule for {family}: name another preset")
        self._refuse_two_methods()
        merged = overridden(base.model_dump(exclude_unset=True), self)
        return validate(Reduction, merged, f"preset {self.preset!r} with its overrides")


@cache
def _shipped_schedules() -> dict[str, str]:
    """Checkpoint -> the schedules that its own YAML names."""
    models = [read_yaml(path)["model"] for path in shipped("models").values()]
    return {model["id"]: model["schedule"] for model in models if "schedule" in model}
