"""How much the frames of a still camera differ once a codec has had them: the figures of docs/video.md.

    python scripts/still_clips.py

The sample photograph for five seconds at 1280x720, with and without the noise of a sensor, in H.264. Told
are the largest mean difference of a patch or group from the first frame, of 255, how many of 16 frames (or 8
pairs) differ enough not to stand still for `turbo`, and the share of all patches that enter under it. Then,
of a camera that moves over the photograph, that share, and how long preprocessing and deciding take: of the
process, in all its threads.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

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
from illava_cli.models.media import Pixels
from illava_cli.models.planning import plan
from illava_cli.models.schedule import Schedule
from illava_cli.reduction.pixels import Cells, moved

PHOTO = Path(__file__).parents[1] / "illava_cli" / "assets" / "sample.jpg"
SHAPES = ("llava-onevision-7b", "qwen2.5-vl-7b")
SIZE, COUNT, RATE = (1280, 720), 60, 12
ROUNDS = 5
STEP = 4  # pixels from frame to frame of a camera that moves
OPTIONS = MediaOptions(num_frames=16)


def frames(noise: float, step: int) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8, with so many levels of noise; a camera moves by `step` pixels to the right a frame."""
    (width, height), way = SIZE, step * COUNT
    photo = Image.open(PHOTO).convert("RGB").resize((width + way, height))
    photo = np.asarray(photo, dtype=np.float32)
    for number in range(COUNT):
        shown = photo[:, step * number :][:, :width]
        shown = shown + np.random.default_rng(number).normal(0, noise, shown.shape)
        yield shown.round().clip(0, 255).astype(np.uint8)


def write(path: Path, quality: int, apart: int, noise: float, step: int = 0) -> None:
    """H.264 with that rate factor and a whole picture every `apart` frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": str(quality)})
        stream.width, stream.height = SIZE
        stream.pix_fmt, stream.gop_size, stream.time_base = "yuv420p", apart, Fraction(1, RATE)
        for frame in frames(noise, step):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


def read(path: Path, family: Family) -> Pixels:
    clip = read_clip(str(path), OPTIONS, partial(family.resize_frame, options=OPTIONS), None)
    return family.preprocess_video(clip.frames)


def entering(pixels: Pixels, schedule: Schedule) -> float:
    """The share of its patches, or groups, that enter."""
    return sum(admitted(pixels, schedule).entering) / (pixels.segments * pixels.tokens)


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
            print(f"| {setting[0]}, {setting[1]}, {setting[2]:g} | {row(path, families, still)} |")
        write(path, 23, 30, 0.0, STEP)
        print(f"| moving: 23, 30, 0 | {row(path, families, moving)} |")


def row(path: Path, families: list[Family], cell: Callable[[Path, Family], str]) -> str:
    return " | ".join(cell(path, family) for family in families)


def still(path: Path, family: Family) -> str:
    pixels, preset = read(path, family), turbo(family)
    view = pixels.form.views()[0]
    steps = (pixels.pictures(step) for step in range(pixels.segments))
    first, *others = (Cells.of(step, view.rows, view.columns) for step in steps)
    most = max(moved(one, first) for one in others)
    alone = Schedule(frames=replace(preset.frames, still_frames=1))
    differ = len(admitted(pixels, alone).shown)
    return f"{most:.1f}, {differ} of {pixels.segments}, {entering(pixels, preset):.0%}"


def moving(path: Path, family: Family) -> str:
    """Medians of `ROUNDS`."""
    preset, making, deciding = turbo(family), [], []
    for _ in range(ROUNDS):
        start = time.process_time()
        pixels = read(path, family)
        pixels.pixel_values(0, pixels.segments)
        middle = time.process_time()
        share = entering(pixels, preset)
        making.append(middle - start)
        deciding.append(time.process_time() - middle)
    made, decided = (1000 * median(times) for times in (making, deciding))
    return f"{share:.0%}, made in {made:.0f} ms, decided in {decided:.0f} ms, {decided / made:.1%}"


if __name__ == "__main__":
    main()
