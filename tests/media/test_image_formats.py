"""Formats with ways of their own: PSD, Lab, HEIC, AVIF."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError, features

from illava_cli.errors import MediaError
from illava_cli.media import read_image, read_video
from tests.media.picture_files import psd, tiff
from tests.media.reading import close, encoded, pixel
from tests.media_files import quadrants


def test_psd_with_layers_is_its_composite(caplog: pytest.LogCaptureFixture):
    channels = [band.tobytes() for band in quadrants((16, 16)).split()]
    for layers in (0, 1, 2, -2):
        image = read_image(psd(channels, (16, 16), mode=3, layers=layers)).image
        assert (np.asarray(image) == np.asarray(quadrants((16, 16)))).all()
    assert not caplog.records


def test_fourth_channel_of_a_psd_is_transparency_only_if_it_says_so():
    channels = [bytes([value]) * 4 for value in (200, 100, 50, 0)]
    assert pixel(psd(channels, (2, 2), mode=3)) == (200, 100, 50)
    assert pixel(psd(channels, (2, 2), mode=3, layers=2)) == (200, 100, 50)
    assert pixel(psd(channels, (2, 2), mode=3, layers=-2)) == (255, 255, 255)


def test_set_bit_of_a_psd_is_black():
    assert pixel(psd([b"\xff"], (8, 1), mode=0, depth=1)) == (0, 0, 0)
    assert pixel(psd([b"\0"], (8, 1), mode=0, depth=1)) == (255, 255, 255)


def test_lab_has_no_alpha():
    lab = [bytes([value]) * 4 for value in (128, 128, 128)]
    assert close(pixel(psd(lab, (2, 2), mode=9)), (119, 119, 119), 1)
    data = tiff(bytes([128, 0, 0] * 4), (2, 2), bits=(8, 8, 8), photometric=8)
    assert close(pixel(data), (119, 119, 119), 1)


@pytest.mark.parametrize(("channels", "photometric"), [(1, 1), (3, 2)])
def test_premultiplied_alpha(channels: int, photometric: int):
    # half transparent, so half of the colour is white
    data = bytes([100] * channels + [128]) * 4
    associated = [(338, "H", (1,))]
    picture = tiff(data, (2, 2), bits=(8,) * (channels + 1), photometric=photometric, more=associated)
    try:
        Image.open(io.BytesIO(picture))
    except UnidentifiedImageError:
        pytest.skip("this Pillow does not open grey with premultiplied alpha")
    assert close(pixel(picture), [227] * 3, 1)


def heic(image: Image.Image, **options: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    if not pillow_heif.libheif_info().get("encoders", {}).keys() & {"x265", "kvazaar"}:
        pytest.skip("this pillow-heif cannot encode HEIC")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=-1, **options)
    return buffer.getvalue()


def test_heic(tmp_path: Path):
    data = heic(quadrants((64, 48)))
    medium = read_image(data)
    assert (medium.width, medium.height) == (64, 48)
    assert close(np.asarray(medium.image), np.asarray(quadrants((64, 48))), 40)
    with pytest.raises(MediaError, match=r"a HEIC image, not a video; give it with --image"):
        read_video(data)
    with pytest.raises(MediaError, match=r"over the limit of 0.001 million"):
        read_image(data, max_megapixels=0.001)
    with pytest.raises(MediaError, match="HEIC image, but it is damaged"):
        read_image(data[:200])


def test_heic_orientation_alpha_and_ten_bits():
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    half = Image.new("RGBA", (64, 64), (200, 0, 0, 128))
    assert close(pixel(heic(half)), (227, 127, 127), 4)
    # the picture is stored lying on its side and says so
    lying = quadrants((64, 48)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    medium = read_image(heic(lying, exif=exif.tobytes()))
    assert (medium.width, medium.height) == (64, 48)
    assert close(medium.image.getpixel((4, 4)), (255, 0, 0), 12)
    deep = np.full((64, 64, 3), 32768, np.uint16)
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (64, 64), deep.tobytes()).save(buffer, quality=-1)
    assert close(pixel(buffer.getvalue()), (128, 128, 128), 2)


def test_several_pictures_in_a_heic(caplog: pytest.LogCaptureFixture):
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    heic(quadrants((64, 64)))  # skips without an encoder
    several = pillow_heif.from_pillow(Image.new("RGB", (64, 64), (255, 0, 0)))
    several.add_from_pillow(Image.new("RGB", (64, 64), (0, 0, 255)))
    buffer = io.BytesIO()
    several.save(buffer, primary_index=1)
    assert close(pixel(buffer.getvalue()), (0, 0, 255), 12)
    assert "has 2 pictures, only the main one is used" in caplog.text


def test_heic_without_pillow_heif(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic") + bytes(100)
    with pytest.raises(MediaError, match=r"is a HEIC image, .* pip install 'illava\[heic\]'") as caught:
        read_image(data)
    assert "\n" not in str(caught.value)


def test_avif_under_the_general_brand_needs_no_pillow_heif(monkeypatch: pytest.MonkeyPatch):
    if not features.check("avif"):
        pytest.skip("no AVIF in this Pillow")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = encoded(quadrants((16, 16)), "AVIF").replace(b"ftypavif", b"ftypmif1", 1)
    assert read_image(data).width == 16
