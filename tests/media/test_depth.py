"""Samples of every depth and kind: black, white and what lies between as the file means them.

The expected values are those that ffmpeg 7 and tifffile gave for files written by tifffile.
"""

from __future__ import annotations

import io
import logging
import struct

import numpy as np
import pytest
from PIL import Image

from illava_cli.errors import MediaError
from illava_cli.media import read_image
from tests.media.picture_files import packed, png, tiff

GREY = [0, 40, 128, 211, 255]  # what the ramps below are, in 8 bits


def ramp(white: float, black: float = 0) -> np.ndarray:
    """(1, 5) values whose shares of the way from black to white are those of `GREY`."""
    return np.array([GREY]) / 255 * (white - black) + black


def whole(white: int, black: int = 0) -> np.ndarray:
    return ramp(white, black).round().astype(np.int64)


def grey(data: bytes | Image.Image) -> list[int]:
    pixels = np.asarray(read_image(data).image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


def grey_tiff(values: np.ndarray, kind: str, **options: object) -> bytes:
    stored = values.astype(np.dtype(kind).newbyteorder(options.get("order", "<")))
    options.setdefault("bits", stored.itemsize * 8)
    options.setdefault("sample_format", {"u": 1, "i": 2, "f": 3}[stored.dtype.kind])
    return tiff(stored.tobytes(), (values.shape[1], 1), **options)


@pytest.fixture(autouse=True)
def notes(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "illava")
    return caplog


@pytest.mark.parametrize("bits", [2, 4, 8, 12])
def test_tiff_declares_its_bits(bits: int, notes: pytest.LogCaptureFixture):
    white = 2**bits - 1
    expected = (whole(white) / white * 255).round()[0].tolist()
    assert grey(tiff(packed(whole(white), bits), (5, 1), bits=bits)) == pytest.approx(expected, abs=1)
    assert not notes.records


@pytest.mark.parametrize("bits", [6, 10, 14])
def test_tiff_of_bits_that_pillow_does_not_know_is_refused_in_one_line(bits: int):
    with pytest.raises(MediaError, match=r"a TIFF image, but .* convert it to JPEG or PNG"):
        read_image(tiff(packed(whole(2**bits - 1), bits), (5, 1), bits=bits))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("kind", "white"), [("u1", 255), ("u2", 65535), ("f4", 1)])
def test_white_is_zero_at_every_depth(kind: str, white: int, compressed: bool):
    values = ramp(white) if kind == "f4" else whole(white)
    data = grey_tiff(values, kind, photometric=0, compressed=compressed)
    assert grey(data) == [255 - value for value in GREY]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "black", "white"), [("i2", -900, 900), ("i4", -70000, 9), ("f4", -3, 7)])
def test_signed_values_in_either_byte_order(
    kind: str, black: int, white: int, order: str, compressed: bool, notes: pytest.LogCaptureFixture
):
    values = ramp(white, black) if kind == "f4" else whole(white, black)
    assert grey(grey_tiff(values, kind, order=order, compressed=compressed)) == GREY
    assert notes.text.count(f"declares no range of values; black is taken to be {black}, white {white}") == 1


def test_signed_bytes():
    assert grey(grey_tiff(whole(127, -128), "i1")) == GREY


@pytest.mark.parametrize("compressed", [False, True])
def test_unsigned_32_bits(compressed: bool):
    assert grey(grey_tiff(whole(2**32 - 1), "u4", compressed=compressed)) == GREY
    assert grey(grey_tiff(whole(4095), "u4", compressed=compressed)) == GREY
    said = [(281, "I", (4095,))]
    assert grey(grey_tiff(whole(4095) // 4, "u4", compressed=compressed, more=said)) == pytest.approx(
        [value / 4 for value in GREY], abs=1
    )


@pytest.mark.parametrize("white", [255, 1023, 4095, 65535])
@pytest.mark.parametrize("kind", ["i4", "u4", "f4"])
def test_values_of_a_smaller_type_in_a_wider_one(kind: str, white: int, notes: pytest.LogCaptureFixture):
    # three quarters of white are still measured by white
    values = whole(white) * 3 // 4
    assert grey(grey_tiff(values, kind)) == pytest.approx([0.75 * value for value in GREY], abs=1)
    assert f"white {white}" in notes.text


def test_values_far_below_any_usual_white_spread_from_least_to_most():
    assert grey(grey_tiff(ramp(9.5, 0.5), "f4")) == GREY
    assert grey(grey_tiff(ramp(5e9, -1e9), "f4")) == GREY


def test_values_that_are_not_finite_do_not_decide():
    values = np.append(ramp(9.5, 0.5), [[np.inf, -np.inf, np.nan]], axis=1)
    assert grey(grey_tiff(values, "f4")) == [*GREY, 255, 0, 0]
    assert grey(Image.fromarray(values.astype(np.float32))) == [*GREY, 255, 0, 0]
    with pytest.raises(MediaError, match="holds no finite value; give"):
        read_image(grey_tiff(np.full((1, 5), np.nan), "f4"))


def test_floats_within_0_and_1_keep_their_brightness(notes: pytest.LogCaptureFixture):
    assert grey(grey_tiff(ramp(0.5), "f4")) == pytest.approx([value / 2 for value in GREY], abs=1)
    assert not notes.records


def test_constant_picture_is_no_division_by_zero():
    assert grey(grey_tiff(np.full((1, 2), 7.5), "f4")) == [0, 0]
    assert grey(grey_tiff(np.full((1, 2), -3), "i4")) == [0, 0]


def test_declared_range_of_signed_values_and_floats(notes: pytest.LogCaptureFixture):
    said = [(340, "f", (-10.0,)), (341, "f", (10.0,))]
    assert grey(grey_tiff(np.array([[-20.0, -10, 0, 10, 30]]), "f4", more=said)) == [0, 0, 128, 255, 255]
    assert not notes.records
    nonsense = [(340, "f", (0.0,)), (341, "f", (0.0,))]
    assert grey(grey_tiff(ramp(9.5, 0.5), "f4", more=nonsense)) == GREY


SAID = {"MaxSampleValue": (281, "H", (4000,)), "OME": (270, "s", (b'<OME SignificantBits="12"/>\0',))}


@pytest.mark.parametrize("said", SAID)
def test_tiff_declares_fewer_bits_than_it_stores(said: str, notes: pytest.LogCaptureFixture):
    assert grey(grey_tiff(whole(4095), "u2", more=[SAID[said]])) == GREY
    colours = np.repeat(whole(4095)[..., None], 3, axis=2).astype("<u2")
    data = tiff(colours.tobytes(), (5, 1), bits=(16,) * 3, photometric=2, more=[SAID[said]])
    assert grey(data) == GREY
    assert not notes.records
    # what the values contradict is not believed
    assert grey(grey_tiff(whole(65535), "u2", more=[SAID[said]])) == GREY


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("colour", [0, 2])
def test_png_declares_fewer_bits_than_it_stores(bits: int, colour: int, notes: pytest.LogCaptureFixture):
    def picture(values: np.ndarray) -> bytes:
        values = np.repeat(values[..., None], 3, axis=2) if colour else values
        return png(values, 16, colour, (b"sBIT", bytes((bits,) * (3 if colour else 1))))

    values = whole(2**bits - 1)
    assert grey(picture(values)) == GREY
    # as the format wants it: in the upper bits
    assert grey(picture(values << (16 - bits))) == pytest.approx(GREY, abs=1)
    dark = values[:, :2] // 4 << (16 - bits)
    assert grey(picture(dark)) == pytest.approx([0, 10], abs=1)


def test_dark_deep_grey_says_what_to_do_and_that_works(notes: pytest.LogCaptureFixture):
    values = whole(4095)
    assert max(grey(png(values, 16, 0))) == 16
    assert max(grey(grey_tiff(values, "u2"))) == 16
    assert notes.text.count("16-bit values end at 4095") == 2
    assert "scale them or declare their bits (PNG: sBIT, TIFF: MaxSampleValue)" in notes.text
    notes.clear()
    assert grey(png(values * 16, 16, 0)) == pytest.approx(GREY, abs=1)
    assert grey(png(values, 16, 0, (b"sBIT", b"\x0c"))) == GREY
    assert grey(grey_tiff(values, "u2", more=[SAID["MaxSampleValue"]])) == GREY
    assert not notes.records


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_transparent_grey_of_every_depth(depth: int):
    values = np.arange(min(2**depth, 5))[None]
    expected = (values[0] * 255 / (2**depth - 1)).round().tolist()
    for key in (0, 1):
        found = grey(png(values, depth, 0, (b"tRNS", struct.pack(">H", key))))
        assert found == [255 if n == key else expected[n] for n in range(len(expected))]


@pytest.mark.parametrize("depth", [8, 16])
def test_transparent_colour_is_compared_in_all_its_bits(depth: int):
    colours = np.array([[[7, 8, 9], [7, 8, 8], [200, 8, 9]]])
    key = struct.pack(">HHH", 7, 8, 9)
    pixels = np.asarray(read_image(png(colours, depth, 2, (b"tRNS", key))).image)[0]
    expected = colours[0] >> (depth - 8)
    assert pixels.tolist() == [[255] * 3, *expected[1:].tolist()]
    # of an opened picture that is given, only the high bytes are left to compare
    key = struct.pack(">HHH", 0x1234, 0x1234, 0x1234)
    high = png(np.array([[[0x1234] * 3, [0x4321] * 3]]), 16, 2, (b"tRNS", key))
    with Image.open(io.BytesIO(high)) as image:
        assert grey(image) == [255, 0x43]


def test_deep_colours_and_alpha():
    deep = whole(65535)
    colours = np.repeat(deep[..., None], 3, axis=2)
    alpha = np.full((1, 5, 1), 32896)
    half = [127, 147, 191, 233, 255]
    assert grey(png(colours, 16, 2)) == GREY
    assert grey(png(np.append(colours, alpha, axis=2), 16, 6)) == pytest.approx(half, abs=1)
    assert grey(png(np.append(deep[..., None], alpha, axis=2), 16, 4)) == pytest.approx(half, abs=1)
    data = tiff(colours.astype("<u2").tobytes(), (5, 1), bits=(16,) * 3, photometric=2)
    assert grey(data) == GREY


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_planes_of_16_bits(order: str, compressed: bool):
    planes = np.stack([whole(65535)[0]] * 3).astype(f"{order}u2").tobytes()
    options = {"bits": (16,) * 3, "photometric": 2, "planar": 2, "order": order, "compressed": compressed}
    assert grey(tiff(planes, (5, 1), **options)) == GREY


@pytest.mark.parametrize(("kind", "white"), [("u1", 255), ("u2", 65535), ("f4", 1)])
def test_one_channel_said_to_be_in_planes(kind: str, white: int):
    values = ramp(white) if kind == "f4" else whole(white)
    for photometric in (0, 1):
        data = grey_tiff(values, kind, planar=2, photometric=photometric)
        assert grey(data) == [value if photometric else 255 - value for value in GREY]


def test_opened_picture_whose_file_is_closed():
    with io.BytesIO(png(whole(65535), 16, 0)) as file:
        image = Image.open(file)
        image.load()
    assert grey(image) == GREY


def test_portable_maps_are_measured_by_what_they_declare(notes: pytest.LogCaptureFixture):
    for white in (255, 1023, 4095, 65535):
        values = (whole(white) // 8).astype("u1" if white == 255 else ">u2")
        data = b"P5 5 1 %d\n" % white + values.tobytes()
        assert grey(data) == pytest.approx([value / 8 for value in GREY], abs=1)
    assert not notes.records


def test_jpeg2000_of_deep_colours_keeps_its_whites():
    """Written once with OpenJPEG: 16 bits, 65535, 65408, 32768 and 0, twice."""
    pixels = np.asarray(read_image(bytes.fromhex(DEEP_JPEG2000)).image)
    assert pixels[0].tolist() == [[255] * 3, [255] * 3, [128] * 3, [0] * 3]


DEEP_JPEG2000 = (
    "ff4fff51002f0000000000040000000200000000000000000000000400000002000000000000000000030f01010f01010f01"
    "01ff52000c00000001010004040001ff5c00044080ff640025000143726561746564206279204f70656e4a50454720766572"
    "73696f6e20322e352e34ff90000a0000000000240001ff93dff89080168b6bea4239caaf4126af5a8350637f8080ffd9"
)
