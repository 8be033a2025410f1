"""Configuration: what can be set (`options`, `stages`, `settings`), what is shipped (`places`, `presets`),
and where it is said (`sources`).

A preset is a named reduction; `variant`, `layout`, `positions`, `method`, `guide`, `vision`, `input` and
`llm` beside it override parts of it. Unknown keys are errors that name the near miss. Nothing here imports
torch, and the package by itself nothing at all: a public name is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_ROOMS = {
    "options": ("GenerationOptions", "MediaOptions", "ModelOptions"),
    "places": ("PACKAGE", "shipped"),
    "presets": ("load_preset", "preset_names"),
    "reading": ("read_yaml", "validate"),
    "settings": ("Config",),
    "sources": ("resolve",),
    "stages": ("GuideStage", "InputStage", "LLMStage", "Preset", "Reduction", "VisionStage"),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
