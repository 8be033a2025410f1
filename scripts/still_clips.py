"""How much the frames of a still camera differ once a codec has had them: the figures of docs/video.md.

    python scripts/still_clips.py

The sample photograph for five seconds at 1280x720, with and without the noise of a sensor, in H.264. Told
are the largest mean difference of a patch or group from the first frame, of 255, how many of 16 frames (or 8
pairs) differ enough not to stand still for `turbo`, and the share of all patches that enter under it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import product
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from illava_cli.config.options import MediaOptions, ModelOptions
from illava_cli.config.settings import Config
from illava_cli.engine.media import read_clip
from illava_cli.models.entering import admitted
from illava_cli.models.family import Family
from illava_cli.models.loading import random_family
from illava_cli.models.planning import plan
from illava_cli.models.schedule import Schedule
from illava_cli.reduction.pixels import moved

PHOTO = Path(__file__).parents[1] / "illava_cli" / "assets" / "sample.jpg"
SHAPES = ("llava-onevision-7b", "qwen2.5-vl-7b")
SIZE, COUNT, RATE = (1280, 720), 60, 12
OPTIONS = MediaOptions(num_frames=16)


def frames(noise: float) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8, with so many levels of noise."""
    photo = np.asarray(Image.open(PHOTO).convert("RGB").resize(SIZE), dtype=np.float32)
    for number in range(COUNT):
        shown = photo + np.random.default_rng(number).normal(0, noise, photo.shape)
        yield shown.round().clip(0, 255).astype(np.uint8)


def write(path: Path, quality: int, apart: int, noise: float) -> None:
    """H.264 with that rate factor and a whole picture every `apart` frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": str(quality)})
        stream.width, stream.height = SIZE
        stream.pix_fmt, stream.gop_size, stream.time_base = "yuv420p", apart, Fraction(1, RATE)
        for frame in frames(noise):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


def turbo(family: Family) -> Schedule:
    """The preset, before tokens."""
    schedule = plan(Config(preset="turbo").reduction_for(family.schedule_key), family.schedule_shape, "video")
    return Schedule(frames=schedule.frames, pixels=schedule.pixels)


def main() -> None:
    families = [
        random_family(ModelOptions(id=f"random:{name}"), torch.device("meta"), torch.bfloat16, "sdpa")
        for name in SHAPES
    ]
    print(f"| rate factor, key frames every, noise | {' | '.join(SHAPES)} |")
    print("|---" * (1 + len(SHAPES)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        for setting in product((23, 30), (30, 250), (0.0, 3.0)):
            write(path, *setting)
            cells = []
            for family in families:
                clip = read_clip(str(path), OPTIONS, partial(family.resize_frame, options=OPTIONS), None)
                pixels = family.preprocess_video(clip.frames)
                view = pixels.form.views()[0]
                first, *others = (pixels.pictures(step) for step in range(pixels.segments))
                most = max(moved(one, first, view.rows, view.columns) for one in others)
                preset = turbo(family)
                alone = Schedule(frames=replace(preset.frames, still_frames=1))
                differ = len(admitted(pixels, alone).shown)
                share = sum(admitted(pixels, preset).entering) / (pixels.segments * pixels.tokens)
                cells.append(f"{most:.1f}, {differ} of {pixels.segments}, {share:.0%}")
            print(f"| {setting[0]}, {setting[1]}, {setting[2]:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
