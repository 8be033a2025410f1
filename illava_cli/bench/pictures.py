"""Pictures and clips to measure with. Imports no torch: who only sends them needs none."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

QUALITY = 90  # of a JPEG, as cameras write them
CODECS = ("libx264", "mpeg4")  # the second where a build has no other


def blobs(width: int, height: int, seed: int | Sequence[int]) -> np.ndarray:
    """A smooth random picture (height, width, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def jpeg_url(picture: np.ndarray) -> str:
    """A picture (H, W, 3) uint8 as a data: URL."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY)
    return _url("image/jpeg", file)


def clip_url(frames: Sequence[np.ndarray]) -> str:
    """Frames (H, W, 3) uint8 of even height and width as a data: URL of an MP4, one frame a second."""
    import av
    from av.codec.codec import UnknownCodecError

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as made:
        for codec in CODECS:
            try:
                stream = made.add_stream(codec, rate=1)
                break
            except UnknownCodecError:
                if codec == CODECS[-1]:
                    raise
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            made.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        made.mux(stream.encode())
    return _url("video/mp4", file)


def _url(kind: str, file: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
