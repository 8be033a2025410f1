"""Cut-outs with their kinds, photographs, and both together: stamps put onto photographs by a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

EDGE = 224
FEWEST = 400  # opaque pixels of a cut-out
KINDS = {  # folders below `stamps`, without drawings
    "bird": ("animals/birds",),
    "mammal": ("animals/mammals", "animals/marsupials"),
    "fish": ("animals/fish",),
    "insect": ("animals/insects",),
    "fruit": ("food/fruit",),
    "vegetable": ("food/vegetables",),
    "flower": ("plants/flowers",),
    "instrument": ("hobbies/music",),
    "tool": ("household/tools",),
    "vehicle": ("vehicles",),
    "ball": ("sports",),
}
DRAWN = ("cartoon", "toys", "plastic")
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")


@dataclass(frozen=True)
class Stamp:
    """A cut-out photograph (RGBA, cropped to what is opaque)."""

    kind: str
    name: str
    image: Image.Image

    @property
    def opaque(self) -> float:
        """Share of its box that it covers."""
        return float((np.asarray(self.image.getchannel("A")) > 40).mean())


def stamps(package: Path) -> list[Stamp]:
    """All of the kinds, in the order of their names; mirrored twins are left out."""
    root, found = package / "usr/share/tuxpaint/stamps", []
    for kind, folders in KINDS.items():
        for path in sorted(p for folder in folders for p in (root / folder).rglob("*.png")):
            if any(part in DRAWN for part in path.parts) or "mirror" in path.stem:
                continue
            image = Image.open(path).convert("RGBA")
            opaque = image.getchannel("A").point(lambda a: 255 * (a > 40))
            if np.count_nonzero(np.asarray(opaque)) >= FEWEST:
                found.append(Stamp(kind, path.stem, image.crop(opaque.getbbox())))
    return found


def photographs(scikit: Path, foolbox: Path) -> list[Image.Image]:
    """Whole photographs, squares of `EDGE`."""
    paths = [scikit / "skimage/data" / name for name in PHOTOGRAPHS]
    paths += sorted((foolbox / "foolbox/data").glob("imagenet_*.*"))
    return [_square(Image.open(path).convert("RGB")) for path in paths]


def _square(image: Image.Image) -> Image.Image:
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    return image.crop(box).resize((EDGE, EDGE), Image.Resampling.BICUBIC)


def on_white(stamp: Stamp, share: float = 0.9) -> Image.Image:
    """The cut-out in the middle of a white square, its longer side that share of it."""
    canvas = Image.new("RGB", (EDGE, EDGE), "white")
    paste(canvas, stamp, share, (0.5, 0.5))
    return canvas


def on_photograph(
    rng: np.random.Generator, stamp: Stamp, backgrounds: Sequence[Image.Image], others: Sequence[Stamp] = ()
) -> Image.Image:
    """The cut-out on a photograph, half to four fifths of it large; `others` are small ones beside it."""
    canvas = backgrounds[int(rng.integers(len(backgrounds)))].copy()
    for other in others:
        paste(canvas, other, float(rng.uniform(0.15, 0.25)), tuple(rng.uniform(0.1, 0.9, 2)))
    share = float(rng.uniform(0.5, 0.8))
    room = (1 - share) / 2
    paste(canvas, stamp, share, tuple(rng.uniform(0.5 - room, 0.5 + room, 2)))
    return canvas


def paste(canvas: Image.Image, stamp: Stamp, share: float, centre: tuple[float, float]) -> None:
    """Onto a square: its longer side is that share of the edge, its middle at `centre`, shares as well."""
    scale = share * EDGE / max(stamp.image.size)
    size = tuple(max(1, round(scale * edge)) for edge in stamp.image.size)
    image = stamp.image.resize(size, Image.Resampling.BICUBIC)
    corner = tuple(round(c * EDGE - edge / 2) for c, edge in zip(centre, size, strict=True))
    canvas.paste(image, corner, image)
