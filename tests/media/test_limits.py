"""The bound on pixels: what is over it is decoded smaller or refused, before it takes time and memory."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from illava_cli.config.options import MAX_MEGAPIXELS, MediaOptions
from illava_cli.engine.media import MediaReader, sampling
from illava_cli.errors import MediaError
from illava_cli.media import read_image, read_video
from illava_cli.readers.job import Job, read
from tests.media_files import quadrants


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_picture_over_the_limit_is_refused_and_the_advice_works(format: str):
    data = encoded(quadrants((100, 60)), format)
    with pytest.raises(MediaError, match=r"has 100x60 pixels, over the limit of 0.005 million") as caught:
        read_image(data, max_megapixels=0.005)
    assert "scale it down (--max-megapixels raises the limit)" in str(caught.value)
    assert read_image(data, max_megapixels=0.006).width == 100


def test_refusal_comes_before_decoding():
    data = encoded(Image.new("P", (12000, 9000)), "PNG", transparency=0)
    tracemalloc.start()
    with pytest.raises(MediaError, match="over the limit of 100 million"):
        read_image(data)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


@pytest.mark.parametrize("format", ["JPEG", "MPO", "JPEG2000"])
@pytest.mark.parametrize(("limit", "scale"), [(0.05, 2), (0.0125, 4), (0.0032, 8)])
def test_jpeg_over_the_limit_is_decoded_smaller(
    format: str, limit: float, scale: int, caplog: pytest.LogCaptureFixture
):
    if format == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("no JPEG 2000 in this Pillow")
    medium = read_image(encoded(quadrants((400, 480)), format, quality=95), max_megapixels=limit)
    assert (medium.width, medium.height) == (400 // scale, 480 // scale)
    assert medium.image.size == (medium.width, medium.height)
    corners = [medium.image.getpixel((x, y)) for y in (2, -3 % medium.height) for x in (2, -3 % medium.width)]
    assert np.abs(np.array(corners) - [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]).max() <= 40
    assert f"has 400x480 pixels, over the limit of {limit:g} million; read at 1/{scale} of" in caplog.text
    assert "--max-megapixels raises the limit" in caplog.text


def test_photo_within_the_limit_is_decoded_as_ever(caplog: pytest.LogCaptureFixture):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8))
    data = encoded(noise, "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image)
    assert (np.asarray(read_image(data, max_megapixels=0.006).image) == expected).all()
    assert not caplog.records


def test_what_cannot_be_decoded_small_enough_is_refused():
    picture = quadrants((400, 480))
    with pytest.raises(MediaError, match="over the limit"):
        read_image(encoded(picture, "JPEG"), max_megapixels=0.002)
    # all of its coefficients would be in memory, whatever size is wanted
    with pytest.raises(MediaError, match="over the limit"):
        read_image(encoded(picture, "JPEG", progressive=True), max_megapixels=0.1)
    with pytest.raises(MediaError, match="over the limit"):
        read_image(encoded(picture, "JPEG2000", num_resolutions=1), max_megapixels=0.1)


def test_picture_over_pillows_own_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for format in ("JPEG", "PNG", "WEBP"):
        assert read_image(encoded(quadrants((100, 60)), format)).width == 100
        with pytest.raises(MediaError, match="over the limit of 1e-05 million"):
            read_image(encoded(quadrants((100, 60)), format), max_megapixels=0.00001)
        assert Image.MAX_IMAGE_PIXELS == 1000


def test_given_picture_is_neither_changed_nor_exempt(tmp_path: Path):
    quadrants((100, 60)).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        with pytest.raises(MediaError, match="over the limit"):
            read_image(image, max_megapixels=0.005)
        assert image.size == (100, 60)


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_frames_of_a_video_over_the_limit_are_refused(clips: dict[str, Path], backend: str):
    with pytest.raises(MediaError, match=r"\.mp4: has 128x96 pixels, over the limit of 0.012 million"):
        read_video(clips["h264-cfr"], backend=backend, max_megapixels=0.012)
    assert read_video(clips["h264-cfr"], backend=backend, num_frames=1, max_megapixels=0.0123).width == 128


def test_the_setting_reaches_every_reader(tmp_path: Path):
    path = str(tmp_path / "a.png")
    quadrants((100, 60)).save(path)
    options = MediaOptions(max_megapixels=0.005)
    words = "over the limit of 0.005 million"
    with pytest.raises(MediaError, match=words):
        MediaReader(None, options, "", None).image(path, alone=True)
    assert words in str(read(Job([path], [], options), lambda height, width: (height, width)).error)
    with pytest.raises(MediaError, match=words):
        read_video([quadrants((100, 60))], max_megapixels=0.005)


def test_the_setting_is_that_of_the_readers():
    assert MediaOptions().max_megapixels == MAX_MEGAPIXELS == 100
    assert sampling(MediaOptions(max_megapixels=7))["max_megapixels"] == 7
