"""The pictures that cells are drawn over: media read once more at a size for the screen, cut into views."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from illava_cli.config.options import MAX_MEGAPIXELS
from illava_cli.media import read_image, read_video
from illava_cli.trace import Extent, View

MOST_FRAMES = 32  # of a video; more are sampled
EDGES = ((6, 768), (16, 512))  # up to so many views, pixels of a view's longer edge
SMALL_EDGE = 384
QUALITY = 80  # of JPEG


@dataclass(frozen=True)
class Picture:
    """One view as it is drawn.

    Args:
        index: of the view among all of its medium.
        label: `overview`, `tile 1,2`, `frame 12 (1.2 s)`.
        image: what the view shows of the picture, without padding.
        box: where `image` lies in the view, in shares of what the view shows.
    """

    index: int
    label: str
    image: Image.Image
    box: Extent

    def pixels(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) in shares of the view, in pixels of `image`; padding lies beyond it."""
        left, top, width, height = self.box
        across, down = self.image.width / width, self.image.height / height
        return (boxes - [left, top, 0, 0]) * [across, down, across, down]

    def src(self) -> str:
        """The image as a `data:` URL."""
        data = io.BytesIO()
        self.image.save(data, "JPEG", quality=QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")


@dataclass(frozen=True)
class Medium:
    """An image or a video with the views that are drawn, and how many views it has."""

    kind: str
    source: str
    pictures: tuple[Picture, ...]
    views: int

    @property
    def unit(self) -> str:
        """What a view of a video is: a frame, or with Qwen a pair of them."""
        return "pairs of frames" if self.pictures[0].label.startswith("frames") else "frames"


def read_media(
    images: Sequence[Any], videos: Sequence[Any], views: Sequence[Sequence[View]], sampling: dict[str, Any]
) -> list[Medium]:
    """The media of a question, as its trace tells their `views`.

    Args:
        images, videos: as they were asked about; each is read again.
        sampling: the options of `read_video` that they were asked with.

    Raises:
        MediaError: one cannot be read any more.
    """
    shown = [_sampled(own) for own in views]
    edge = _edge(sum(map(len, shown)))
    media = []
    for source, own in zip(images, views, strict=False):
        image = read_image(source, max_megapixels=sampling.get("max_megapixels", MAX_MEGAPIXELS))
        pictures = (_picture(i, view, _label(view), image.image, edge) for i, view in enumerate(own))
        media.append(Medium("image", image.source, tuple(pictures), len(own)))
    for source, own, indices in zip(videos, views[len(media) :], shown[len(media) :], strict=True):
        video = read_video(
            source, transform=lambda frame, count: _shrunk(Image.fromarray(frame), edge), **sampling
        )
        size = video.width, video.height
        pictures = (
            _picture(
                i,
                own[i],
                _frame_label(own, i, video.indices, video.timestamps),
                _upright(video.frames[own[i].frame], size, edge),
                edge,
            )
            for i in indices
        )
        media.append(Medium("video", video.source, tuple(pictures), len(own)))
    return media


def _sampled(views: Sequence[View]) -> list[int]:
    """Which views are drawn: of a long video `MOST_FRAMES`, evenly spaced."""
    if not views or views[0].frame is None or len(views) <= MOST_FRAMES:
        return list(range(len(views)))
    return np.linspace(0, len(views) - 1, MOST_FRAMES).round().astype(int).tolist()


def _edge(views: int) -> int:
    return next((edge for most, edge in EDGES if views <= most), SMALL_EDGE)


def _label(view: View) -> str:
    return "overview" if view.tile is None else f"tile {view.tile[0] + 1},{view.tile[1] + 1}"


def _frame_label(
    views: Sequence[View], index: int, frames: Sequence[int], timestamps: Sequence[float]
) -> str:
    """A frame's number in the clip, or those of a pair, and when it begins."""
    first = views[index].frame
    behind = views[index + 1].frame if index + 1 < len(views) else len(frames)
    numbers = [str(frame) for frame in frames[first:behind]]
    name = f"frame {numbers[0]}" if len(numbers) == 1 else f"frames {', '.join(numbers)}"
    return f"{name} ({timestamps[first]:.1f} s)" if timestamps else name


def _picture(index: int, view: View, label: str, image: Image.Image, edge: int) -> Picture:
    left, top, width, height = view.extent
    inner = max(left, 0.0), max(top, 0.0), min(left + width, 1.0), min(top + height, 1.0)
    pixels = [share * extent for share, extent in zip(inner, image.size * 2, strict=True)]
    across, down = pixels[2] - pixels[0], pixels[3] - pixels[1]
    if min(across, down) <= 0:  # a tile of nothing but padding
        return Picture(index, label, Image.new("RGB", (SMALL_EDGE, SMALL_EDGE)), (0.0, 0.0, 1.0, 1.0))
    scale = min(1.0, edge / max(across, down))
    if scale == 1 and _is_whole(pixels):
        part = image.crop([round(x) for x in pixels])
    else:
        size = max(1, round(across * scale)), max(1, round(down * scale))
        part = image.resize(size, Image.Resampling.LANCZOS, box=pixels)
    box = (inner[0] - left) / width, (inner[1] - top) / height, across / image.width / width
    return Picture(index, label, part, (*box, down / image.height / height))


def _is_whole(pixels: Sequence[float]) -> bool:
    return all(abs(x - round(x)) < 1e-6 for x in pixels)


def _upright(frame: Image.Image | np.ndarray, size: tuple[int, int], edge: int) -> Image.Image:
    """A frame as the clip shows it; where it was read before, it has the size that the tower wants."""
    if isinstance(frame, Image.Image):
        return frame
    scale = min(1.0, edge / max(size))
    return Image.fromarray(frame).resize([max(1, round(side * scale)) for side in size])


def _shrunk(image: Image.Image, edge: int) -> Image.Image:
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    return image
