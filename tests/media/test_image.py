from __future__ import annotations

import io
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError, features

from illava_cli.errors import MediaError
from illava_cli.media import read_image, read_video
from tests.media.picture_files import psd, tiff
from tests.media_files import quadrants, write_clip, write_jpeg


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixel(data: bytes) -> tuple[int, int, int]:
    medium = read_image(data)
    assert medium.image.mode == "RGB"
    return medium.image.getpixel((0, 0))


def close(left: object, right: object, tolerance: int = 6) -> bool:
    return bool(np.abs(np.asarray(left, int) - np.asarray(right, int)).max() <= tolerance)


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
    """A valid PNG header with hardly any pixels behind it."""
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


def test_avif_behind_the_general_brand_needs_no_pillow_heif(monkeypatch: pytest.MonkeyPatch):
    if not features.check("avif"):
        pytest.skip("no AVIF in this Pillow")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = encoded(quadrants((16, 16)), "AVIF").replace(b"ftypavif", b"ftypmif1", 1)
    assert read_image(data).width == 16


def test_reading_warns_of_nothing_in_python():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"):
            read_image(encoded(quadrants((8, 8)), format))
        read_image(encoded(quadrants((8, 8)), "JPEG")[:-2])
