"""Pictures that are cut off, damaged or no pictures at all."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from illava_cli.errors import MediaError
from illava_cli.media import read_image
from tests.media.reading import encoded
from tests.media_files import quadrants, write_clip


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_cut_off_picture_is_refused(tmp_path: Path, format: str):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, format)
    assert read_image(data).width == 64
    for keep in (0.02, 0.5, 0.9):
        path = tmp_path / f"{keep}"
        path.write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(MediaError, match=f"{keep}: ") as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


def test_what_is_no_image_is_named(tmp_path: Path):
    cases = {
        "page.jpg": (b"<!DOCTYPE html><html></html>", "an HTML page"),
        "notes.jpg": (b"hello\n", "a text file"),
        "paper.jpg": (b"%PDF-1.7\n\xff", "a PDF document"),
        "drawing.jpg": (b"<?xml version='1.0'?><svg></svg>", "an SVG drawing"),
        "figure.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript document"),
        "noise.jpg": (bytes(range(128, 256)), "no image format known"),
    }
    for name, (data, words) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaError, match=f"{name}: .*{words}"):
            read_image(tmp_path / name)
    clip = write_clip(tmp_path / "clip.jpg.mp4", frames=2)
    with pytest.raises(MediaError, match="an MP4/MOV video, not an image; give it with --video"):
        read_image(clip)


def test_missing_empty_and_directory(tmp_path: Path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(MediaError, match=r"empty\.jpg: the file is empty"):
        read_image(tmp_path / "empty.jpg")
    with pytest.raises(MediaError, match=r"none\.jpg: no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(MediaError, match="is a directory"):
        read_image(tmp_path)
    with pytest.raises(MediaError, match="no bytes"):
        read_image(b"")


def png_claiming(width: int, height: int) -> bytes:
    """A valid PNG header with hardly any pixels after it."""
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data


def test_decompression_bomb(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(MediaError, match="has 20000x20000 pixels, over the limit of 100 million"):
        read_image(png_claiming(20000, 20000))
    # Our limit holds even where other code has switched PIL's off.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(MediaError, match="over the limit of 100 million"):
        read_image(png_claiming(20000, 20000))


def test_large_picture_is_no_reason_for_a_warning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(encoded(Image.new("RGB", (8, 8)), "PNG")).width == 8


def test_broken_exif_leaves_the_picture_usable():
    data = encoded(quadrants((16, 16)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert read_image(data).width == 16


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"quality": 30}]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_without_its_end_marker_is_whole(mode: str, options: dict, caplog: pytest.LogCaptureFixture):
    noise = np.random.default_rng(1).integers(0, 256, (33, 35, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise).convert(mode), "JPEG", **options)
    whole = np.asarray(read_image(data).image)
    for lost in (1, 2):
        assert (np.asarray(read_image(data[:-lost]).image) == whole).all()
    # a decoder may well be done before it looks for the marker
    assert "lacks its end marker, but no pixel" in caplog.text or "restart_marker_blocks" in options
    for lost in range(4, len(data) - 2, 37):
        with pytest.raises(MediaError, match="damaged"):
            read_image(data[:-lost])


def test_plain_jpeg_is_never_taken_for_whole_with_other_pixels():
    data = encoded(Image.new("RGB", (65, 67), (200, 10, 10)), "JPEG", restart_marker_blocks=1)
    whole = np.asarray(read_image(data).image)
    for lost in range(3, 120):
        try:
            assert (np.asarray(read_image(data[:-lost]).image) == whole).all()
        except MediaError:
            continue


def test_progressive_jpeg_cut_between_scans_is_refused():
    data = encoded(quadrants((64, 64)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(MediaError, match="damaged or cut off"):
        read_image(data[: data.rindex(b"\xff\xc4", 0, last)])


def test_png_without_its_end_is_whole():
    data = encoded(quadrants((16, 16)), "PNG")
    assert read_image(data[:-12]).width == 16
