"""Stages `pixels`, `frames` and `input` over whole clips, and media that give each something to do."""

import numpy as np
from PIL import Image

from illava_cli.config import resolve
from illava_cli.engine.session import Session
from tests.conftest import picture

VIDEO = ("llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "internvl", "gemma4")
COMMON = ("preset=off", "generation.max_tokens=3", "layout=faithful")
LAYERS = "vision={layers: [2, 4], r: [8, 5]}"
TOWER = {"llava_onevision": LAYERS, "llava_next": LAYERS}
SHARES = "vision={layers: [2, 4], drop: 0.2}"

# name -> settings, for a family's own way to merge in the tower
STAGES = {
    "pixels": ("pixels={tau: 0}",),
    "pixels, tower": ("pixels={tau: 0}", "{tower}"),
    "pixels, entry": ("pixels={tau: 0}", "input={method: illava, keep: 0.6}"),
    "frames": ("frames={layers: [-1, 2], keep: [0.8, 0.6]}",),
    "frames, early": ("frames={method: early-tom, layers: [0, 1], keep: 0.7}", "{tower}"),
    "still": ("frames={still: 0.5}", "pixels={tau: 1}"),
    "clip": ("input={method: distinct, keep: 0.4}",),
    "clip, tower": ("input={method: vidcom2, keep: 0.3}", "frames={layers: [1], keep: 0.6}", "{tower}"),
    "clip, pixels": ("input={method: holitom, keep: 0.3}", "pixels={tau: 0}"),
    "budget": ("media.video_budget=11",),
    "budget, packed": ("layout=grid", "media.video_budget=11"),
}


def settings_of(name: str, family: str) -> tuple[str, ...]:
    tower = TOWER.get(family, SHARES)
    return (
        *COMMON,
        *(setting.format(tower=tower) if setting == "{tower}" else setting for setting in STAGES[name]),
    )


def under(session: Session, *settings: str) -> Session:
    """One of other settings on the same model, that has encoded nothing."""
    own = [f"model.dtype={session.config.model.dtype}", "model.device=cpu"]
    return session.under(resolve(session.config.model.id, settings=[*own, *settings], environ={}))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of which no neighbour predicts anything."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def page(width: int, height: int, seed: int = 0) -> Image.Image:
    """A white picture with a box of noise in it."""
    made = Image.new("RGB", (width, height), "white")
    made.paste(noise(width // 2, height // 2, seed), (width // 8, height // 3))
    return made


def film(frames: int, width: int, height: int, seed: int = 0) -> np.ndarray:
    """A box that moves every second frame over a picture that stays."""
    still, box = picture(width, height, seed), noise(width // 4, height // 4, seed)
    shown = []
    for index in range(frames):
        frame = still.copy()
        frame.paste(box, (index // 2 * width // 8 % (width - width // 4), height // 3))
        shown.append(np.asarray(frame))
    return np.stack(shown)


def storm(frames: int, width: int, height: int, seed: int = 0) -> np.ndarray:
    """Frames of noise."""
    return np.stack([np.asarray(noise(width, height, seed * 100 + i)) for i in range(frames)])
