"""How many times fewer operations a clip takes up to its first token, by schedule (docs/video.md).

    python scripts/video_bounds.py

Counted on models without weights, for frames of 1280x720 and a question of 30 tokens.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from illava_cli.bench.flops import RequestCounts, count
from illava_cli.bench.geometry import model_shape, tower_passes, unmerged_counts
from illava_cli.config.options import ModelOptions
from illava_cli.config.settings import Config
from illava_cli.models.clip import clip_plan
from illava_cli.models.family import Family
from illava_cli.models.loading import random_family
from illava_cli.models.media import Geometry
from illava_cli.models.planning import plan
from illava_cli.models.schedule import Schedule

SHAPES = ("llava-onevision-7b", "qwen2.5-vl-7b", "qwen3-vl-8b")
FRAMES = (16, 32, 128)
SIZE, TEXT = (720, 1280), 30
SCHEDULES = {
    "auto": {"preset": "auto"},
    **{
        f"clip to {keep:.0%}": {"preset": "off", "input": {"method": "fastvid", "keep": keep}}
        for keep in (0.25, 0.15, 0.1)
    },
    "turbo": {"preset": "turbo"},
}


STILL = "turbo, a still clip"


def main() -> None:
    print(f"| shape, frames | {' | '.join([*SCHEDULES, STILL])} |")
    print("|---" * (2 + len(SCHEDULES)) + "|")
    for name in SHAPES:
        one = family(name)
        for frames in FRAMES:
            cells = [bound(one, frames, Config(**settings)) for settings in SCHEDULES.values()]
            cells.append(bound(one, frames, Config(**SCHEDULES["turbo"]), still=True))
            print(f"| {name}, {frames} | {' | '.join(f'{cell:.2f}x' for cell in cells)} |")


def family(name: str) -> Family:
    """That architecture without weights."""
    return random_family(ModelOptions(id=f"random:{name}"), torch.device("meta"), torch.bfloat16, "sdpa")


def bound(family: Family, frames: int, config: Config, still: bool = False) -> float:
    """Operations of the unmodified model up to the first token, over those that are left.

    Args:
        still: all frames show the same.
    """
    schedule = plan(config.reduction_for(family.schedule_key), family.schedule_shape, "video")
    medium = family.geometry("video", SIZE, frames=frames)
    shown = fewer(medium, schedule, still)
    shape, whole = model_shape(family), family.tokens(medium, Schedule()).total
    text = TEXT + stamps(family, medium, frames, medium.shown)
    before = unmerged_counts(family, [medium], text + whole, 1)
    left = clip_plan(shown, schedule).expansion
    text = TEXT + stamps(family, medium, frames, shown.shown)
    decoder = schedule.decoder_tokens(text, [(left.total, left.visual)], shape.decoder.layers)
    passes = tower_passes(family, shown, schedule, family.tower_layers)
    after = RequestCounts(tuple(passes), tuple(decoder), 1)
    return count(shape, before).ttft / count(shape, after).ttft


def fewer(medium: Geometry, schedule: Schedule, still: bool) -> Geometry:
    """With what of it enters the tower, at most, evenly spaced."""
    frames, pixels = schedule.frames, schedule.pixels
    if frames is None and pixels is None:
        return medium
    steps, share = range(medium.segments), 1.0
    if frames is not None:
        steps = spaced(medium.segments, max(1, round(medium.segments * frames.pixels)))
    if pixels is not None and pixels.keep is not None:
        share = min(1.0, pixels.keep * medium.segments / len(steps))
    if still:  # after the first frame, which enters whole, those are left that `every` lets in
        steps, share = range(frames.still_frames), 1 / pixels.every**2
    entered = torch.zeros(medium.segments, medium.tokens, dtype=torch.bool)
    for step in steps:
        entered[step, spaced(medium.tokens, round(medium.tokens * share))] = True
    entered[0] |= still
    return replace(medium.filled(None, None), entered=entered)


def spaced(count: int, left: int) -> np.ndarray:
    """So many of so many places, evenly."""
    return np.linspace(0, count - 1, left).round().astype(int)


def stamps(family: Family, medium: Geometry, frames: int, shown: list[int]) -> int:
    """Tokens of the text among a clip's frames."""
    if not medium.form.apart:
        return 0
    entered = torch.zeros(medium.segments, medium.tokens, dtype=torch.bool)
    entered[shown] = True
    pixels = replace(medium.filled(None, None), entered=entered, times=tuple(map(float, range(frames))))
    return len(family.tokenizer(family.marker("video", pixels)).input_ids) - len(shown)


if __name__ == "__main__":
    main()
