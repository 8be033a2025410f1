"""illava: LLaVA-OneVision, LLaVA-NeXT, Qwen2-VL and Qwen2.5-VL with training-free merging (arXiv 2412.06263).

from illava_cli import load
session = load("llava-onevision-7b", preset="paper", device="cuda")
answer = session.ask("What is shown?", images=["x.jpg"])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from illava_cli.config import Config, GenerationOptions, MediaOptions, ModelOptions, Reduction
    from illava_cli.engine.opening import load
    from illava_cli.engine.record import Generation
    from illava_cli.engine.session import Session

__version__ = "0.1.0"
__all__ = [
    "Config",
    "Generation",
    "GenerationOptions",
    "MediaOptions",
    "ModelOptions",
    "Reduction",
    "Session",
    "load",
]


_HOMES = dict.fromkeys(("Config", "GenerationOptions", "MediaOptions", "ModelOptions", "Reduction"), "config")
_HOMES |= {"Generation": "engine.record", "Session": "engine.session", "load": "engine.opening"}


def __getattr__(name: str):
    # torch is imported only when a model is really wanted, and the program starts with nothing to wait for
    if name in _HOMES:
        return getattr(import_module(f"illava_cli.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
