"""What a measured request asks about: synthetic pictures and clips, or files.

No two synthetic requests hold the same pixels, so that no cache of features can answer one of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np

from illava_cli.bench.pictures import blobs
from illava_cli.config.options import MediaOptions
from illava_cli.engine.media import read_clip, read_picture
from illava_cli.errors import UsageError
from illava_cli.media import name_of
from illava_cli.models.family import Family
from illava_cli.models.media import Pixels

EDGE = 384  # pixels of a synthetic tile or frame where the model has no tiles of its own


@dataclass(frozen=True)
class Description:
    """A medium in the report; sizes in pixels, 0 and empty where a file says it only when it is read."""

    label: str
    kind: str
    synthetic: bool
    tiles: int | None = None
    frames: int | None = None
    width: int | None = None
    height: int | None = None

    def record(self) -> dict[str, Any]:
        """For JSON, without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Medium:
    """The images and videos of one request; `options` says how they are read."""

    description: Description
    images: tuple[Any, ...]
    videos: tuple[Any, ...]
    options: MediaOptions

    def fresh(self, number: int) -> tuple[list[Any], list[Any]]:
        """Images and videos of request `number`: synthetic ones with pixels of their own."""
        if not self.description.synthetic:
            return list(self.images), list(self.videos)
        shift = np.uint8(number % 256)
        return [x + shift for x in self.images], [x + shift for x in self.videos]

    def read(self, family: Family, images: Sequence[Any], videos: Sequence[Any]) -> list[Pixels]:
        """Decode and preprocess as a session does, for the unmodified model."""
        options = self.options
        alone = options.tiles(len(images))
        pictures = [read_picture(source, options).image for source in images]
        pixels = [family.preprocess_image(picture, options, alone) for picture in pictures]
        for source in videos:
            video = read_clip(source, options, partial(family.resize_frame, options=options))
            pixels.append(family.preprocess_video(video.frames).timed(video.timestamps))
        return pixels


def synthetic_image(tiles: int, family: Family, options: MediaOptions = MediaOptions()) -> Medium:
    """A picture that a model with tiles cuts into `tiles`, the overview included; 1 is a padded square.

    Args:
        options: of which the bounds on its pixels hold.

    Raises:
        UsageError: no grid of tiles has that many.
    """
    edge = family.tile.edge if hasattr(family, "tile") else EDGE
    rows, columns = (1, 1) if tiles == 1 else _grid(tiles - 1, family, edge)
    image = blobs(columns * edge, rows * edge, seed=0)
    label = "1 tile" if tiles == 1 else f"{tiles} tiles"
    whole = tiles == 1 and hasattr(family, "tile")
    return Medium(
        Description(label, "image", True, tiles=tiles, width=columns * edge, height=rows * edge),
        (image,),
        (),
        MediaOptions(max_tiles=1 if whole else None, **_pixels(options)),
    )


def synthetic_picture(width: int, height: int) -> Medium:
    """A picture of that size in pixels, read as the model reads any: for those without tiles."""
    return Medium(
        Description(f"{width} x {height} pixels", "image", True, width=width, height=height),
        (blobs(width, height, seed=0),),
        (),
        MediaOptions(),
    )


def _grid(cells: int, family: Family, edge: int) -> tuple[int, int]:
    """Rows and columns of `cells` tiles, as square as the model allows."""
    pinpoints = getattr(family.model.config, "image_grid_pinpoints", None)
    if pinpoints is None:
        grids = [(n, cells // n) for n in range(1, math.isqrt(cells) + 1) if cells % n == 0]
    else:
        grids = [(height // edge, width // edge) for height, width in pinpoints]
    fitting = [grid for grid in grids if grid[0] * grid[1] == cells]
    if not fitting:
        known = sorted({1, *(rows * columns + 1 for rows, columns in grids)})
        raise UsageError(f"--tiles {cells + 1}: this model makes {', '.join(map(str, known))} tiles")
    return min(fitting, key=lambda grid: abs(grid[0] - grid[1]))


def synthetic_video(frames: int, options: MediaOptions = MediaOptions()) -> Medium:
    """A clip of `frames` different pictures, all of which are used.

    Args:
        options: of which the bounds on their pixels hold.
    """
    clip = np.stack([blobs(EDGE, EDGE, seed) for seed in range(frames)])
    label = "1 frame" if frames == 1 else f"{frames} frames"
    return Medium(
        Description(label, "video", True, frames=frames, width=EDGE, height=EDGE),
        (),
        (clip,),
        MediaOptions(num_frames=frames, **_pixels(options)),
    )


def _pixels(options: MediaOptions) -> dict[str, int | None]:
    return {"min_pixels": options.min_pixels, "max_pixels": options.max_pixels}


def real(images: Sequence[Any], videos: Sequence[Any], options: MediaOptions) -> Medium:
    """Files, all in one request; only their names are reported, not where they lie."""
    names = map(name_of, [*images, *videos])
    label = ", ".join(name if name.startswith("<") else PurePath(name).name for name in names)
    kind = "image and video" if images and videos else "video" if videos else "image"
    return Medium(Description(label, kind, False), tuple(images), tuple(videos), options)
