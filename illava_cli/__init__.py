"""illava: LLaVA-OneVision, LLaVA-NeXT, Qwen2-VL and Qwen2.5-VL with training-free merging (arXiv 2412.06263).

from illava_cli import load
session = load("llava-onevision-7b", preset="paper", device="cuda")
answer = session.ask("What is shown?", images=["x.jpg"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from illava_cli.config import Config, GenerationOptions, MediaOptions, ModelOptions, Reduction
from illava_cli.engine.record import Generation

if TYPE_CHECKING:
    from illava_cli.engine.session import Session, load

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


def __getattr__(name: str):
    # torch is imported only when a model is really wanted: `illava --help` stays fast
    if name in ("Session", "load"):
        from illava_cli.engine import session

        return getattr(session, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
