"""Pictures are upright RGB, whatever they are stored as."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from illava_cli.errors import MediaError
from illava_cli.media import read_image
from tests.media.reading import close, encoded, pixel
from tests.media_files import quadrants, write_jpeg


@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
def test_exif_orientation(tmp_path: Path, orientation: int | None):
    stored = np.asarray(quadrants((64, 48)))
    upright = {
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).transpose(1, 0, 2),
        8: np.rot90(stored, 1),
    }.get(orientation, stored)
    medium = read_image(write_jpeg(tmp_path / "a.jpg", orientation=orientation))
    assert (medium.height, medium.width) == upright.shape[:2] == medium.image.size[::-1]
    assert np.abs(np.asarray(medium.image, int) - upright).mean() < 2
    assert medium.kind == "image"


def test_every_kind_of_source(tmp_path: Path):
    path = write_jpeg(tmp_path / "a.jpg")
    reference = np.asarray(read_image(path).image)
    for source in (str(path), path.read_bytes(), Image.open(path), reference):
        assert (np.asarray(read_image(source).image) == reference).all()
    assert read_image(path).source == str(path)
    assert read_image(Image.open(path)).source == str(path)
    assert read_image(reference).source == "<array>"


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_array_of_another_kind(array: np.ndarray):
    with pytest.raises(MediaError, match=r"give \(H, W, 3\) uint8"):
        read_image(array)


def test_transparency_is_composited_onto_white():
    half = Image.new("RGBA", (2, 2), (200, 0, 0, 128))
    assert close(pixel(encoded(half, "PNG")), (227, 127, 127), 1)
    assert pixel(encoded(Image.new("LA", (2, 2), (10, 0)), "PNG")) == (255, 255, 255)
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    assert pixel(encoded(palette, "PNG")) == (9, 8, 7)
    assert pixel(encoded(palette, "PNG", transparency=1)) == (255, 255, 255)
    assert pixel(encoded(Image.new("RGB", (2, 2), (5, 6, 7)), "PNG", transparency=(5, 6, 7))) == (
        255,
        255,
        255,
    )


def test_transparency_equals_transformers():
    transforms = pytest.importorskip("transformers.image_transforms")
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (9, 7, 4), dtype=np.uint8), "RGBA")
    expected = np.asarray(transforms.convert_to_rgb(image))
    if expected.shape == (9, 7, 4) or (expected == np.asarray(image.convert("RGB"))).all():
        pytest.skip("this release of transformers drops transparency")
    assert (np.asarray(read_image(image).image) == expected).all()


def test_other_modes():
    assert pixel(encoded(Image.new("L", (2, 2), 77), "PNG")) == (77, 77, 77)
    assert pixel(encoded(Image.new("1", (2, 2), 1), "PNG")) == (255, 255, 255)
    assert close(pixel(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")), (255, 0, 0))


def test_adobe_inverted_cmyk():
    data = encoded(Image.new("CMYK", (8, 8), (255, 255, 0, 0)), "JPEG", quality=95)
    marker = b"Adobe"
    if marker not in data:
        adobe = b"\xff\xee" + struct.pack(">H", 14) + b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0)
        data = data[:2] + adobe + data[2:]
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "CMYK"
        assert image.info.get("adobe")
    assert close(pixel(data), (0, 0, 255))


def test_deep_greyscale_is_scaled_not_clipped():
    ramp = np.array([[0, 257 * 100, 65535]], np.uint16)
    expected = [0, 100, 255]
    for format in ("PNG", "TIFF", "PPM"):
        image = read_image(encoded(Image.fromarray(ramp), format)).image
        assert np.asarray(image)[0, :, 0].tolist() == expected, format
    floats = np.array([[0.0, 0.5, 1.0]], np.float32)
    assert np.asarray(read_image(encoded(Image.fromarray(floats), "TIFF")).image)[0, :, 1].tolist() == [
        0,
        128,
        255,
    ]
    wide = np.array([[-1000, 0, 1000]], np.int32)
    assert np.asarray(read_image(encoded(Image.fromarray(wide), "TIFF")).image)[0, :, 2].tolist() == [
        0,
        128,
        255,
    ]


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_animation_gives_its_first_frame_and_a_warning(format: str, caplog: pytest.LogCaptureFixture):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    first, *rest = (Image.new("RGB", (16, 16), colour) for colour in colours)
    data = encoded(first, format, save_all=True, append_images=rest, duration=100)
    assert close(pixel(data), (255, 0, 0))
    assert [record.name for record in caplog.records] == ["illava"]
    assert "has 3 frames, only the first" in caplog.text


def test_still_picture_warns_of_nothing(caplog: pytest.LogCaptureFixture):
    pixel(encoded(Image.new("RGB", (16, 16)), "GIF"))
    first, second = quadrants((16, 16)), quadrants((16, 16))
    pixel(encoded(first, "MPO", save_all=True, append_images=[second]))
    assert not caplog.records


def test_content_decides_not_the_extension(tmp_path: Path):
    path = tmp_path / "really_a_png.jpg"
    quadrants((8, 8)).save(path, "PNG")
    assert read_image(path).image.getpixel((0, 0)) == (255, 0, 0)


def test_reading_warns_of_nothing_in_python():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"):
            read_image(encoded(quadrants((8, 8)), format))
        read_image(encoded(quadrants((8, 8)), "JPEG")[:-2])
