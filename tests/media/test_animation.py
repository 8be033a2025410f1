"""Animated pictures: an image by their first frame, a clip by all; and what the notes advise works."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from illava_cli.errors import MediaError
from illava_cli.media import read_image, read_video
from tests.media_files import quadrants, write_jpeg

ANIMATIONS = [
    "GIF",
    "PNG",
    "WEBP",
    pytest.param(
        "AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="no AVIF in this Pillow")
    ),
]
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]
DURATIONS = [100, 200, 300, 400]


def animated(format: str, frames: list[Image.Image] | None = None, **options: object) -> bytes:
    first, *rest = frames or [Image.new("RGB", (32, 24), colour) for colour in COLOURS]
    options = {"duration": DURATIONS, **({"lossless": True} if format == "WEBP" else {}), **options}
    buffer = io.BytesIO()
    first.save(buffer, format, save_all=True, append_images=rest, **options)
    return buffer.getvalue()


def colours(frames: list[np.ndarray]) -> list[tuple[int, ...]]:
    return [tuple(frame[0, 0].tolist()) for frame in frames]


@pytest.mark.parametrize("format", ANIMATIONS)
def test_animated_picture_is_a_clip(format: str):
    medium = read_video(animated(format))
    assert medium.kind == "video"
    assert (medium.width, medium.height) == (32, 24)
    assert medium.indices == (0, 1, 2, 3)
    assert medium.timestamps == pytest.approx((0, 0.1, 0.3, 0.6))
    assert np.abs(np.array(colours(medium.frames)) - COLOURS).max() <= 3


@pytest.mark.parametrize("format", ANIMATIONS)
def test_animation_follows_the_sampling_rule_of_videos(format: str, tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(animated(format))
    assert read_video(path, num_frames=2).indices == (0, 3)
    assert read_video(path, fps=10).indices == (0, 1, 2, 3)
    assert read_video(path, start=0.2, end=0.4).indices == (2,)
    shapes = read_video(path, num_frames=2, transform=lambda frame, count: frame.shape).frames
    assert list(shapes) == [(24, 32, 3)] * 2
    with pytest.raises(MediaError, match="no frame lies within 5 s"):
        read_video(path, start=5)


@pytest.mark.parametrize("format", ANIMATIONS)
def test_the_note_on_an_animation_advises_what_works(format: str, caplog: pytest.LogCaptureFixture):
    data = animated(format)
    assert read_image(data).width == 32
    assert "has 4 frames, only the first is used; give it as a video to use all" in caplog.text
    caplog.clear()
    assert len(read_video(data).frames) == 4
    assert not caplog.records


def test_the_note_on_pages_advises_what_works(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    pages = [Image.new("RGB", (16, 16), colour) for colour in COLOURS[:3]]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    assert read_image(tmp_path / "pages.tif").image.getpixel((0, 0)) == COLOURS[0]
    assert "has 3 pages, only the first is used; save each as a picture of its own to use all" in caplog.text
    caplog.clear()
    with Image.open(tmp_path / "pages.tif") as image:
        for number, colour in enumerate(COLOURS[:3]):
            image.seek(number)
            image.save(tmp_path / f"{number}.png")
            assert read_image(tmp_path / f"{number}.png").image.getpixel((0, 0)) == colour
            # and an opened picture is used as it stands
            if number:
                assert read_image(image).image.getpixel((0, 0)) == colour
    assert not caplog.records
    with pytest.raises(MediaError, match="is a TIFF image, not a video; give it with --image"):
        read_video(tmp_path / "pages.tif")
    assert read_image(tmp_path / "pages.tif").width == 16


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_a_still_picture_given_as_a_video_is_one_for_image(format: str):
    buffer = io.BytesIO()
    quadrants((16, 16)).save(buffer, format)
    with pytest.raises(MediaError, match="not a video; give it with --image"):
        read_video(buffer.getvalue())
    assert read_image(buffer.getvalue()).width == 16


def test_gif_of_one_frame_is_a_clip_too():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(buffer, "GIF")
    medium = read_video(buffer.getvalue(), num_frames=4)
    assert (medium.indices, medium.timestamps, colours(medium.frames)) == ((0,), (0.0,), [COLOURS[0]])


@pytest.mark.parametrize("format", ANIMATIONS[1:])
def test_frames_are_composited_onto_white(format: str):
    frames = [Image.new("RGBA", (32, 24), (255, 0, 0, alpha)) for alpha in (255, 0, 51)]
    medium = read_video(animated(format, frames, duration=100))
    expected = [(255, 0, 0), (255, 255, 255), (255, 204, 204)]
    assert np.abs(np.array(colours(medium.frames)) - expected).max() <= 3


def test_frames_of_a_gif_are_whole_pictures_on_white():
    frames = []
    for left in (0, 8):
        frame = Image.new("P", (16, 8), 0)
        frame.putpalette([0, 0, 0, 255, 0, 0])
        frame.paste(1, (left, 0, left + 8, 8))
        frames.append(frame)
    first, second = read_video(animated("GIF", frames, duration=100, transparency=0, disposal=2)).frames
    for pixels, red, white in ((first, 0, 8), (second, 8, 0)):
        assert (pixels[:, red : red + 8] == (255, 0, 0)).all()
        assert (pixels[:, white : white + 8] == 255).all()
    kept = read_video(animated("GIF", frames, duration=100, transparency=0, disposal=1)).frames[1]
    assert (kept == (255, 0, 0)).all()


def test_duration_that_nobody_thought_about_is_a_tenth_of_a_second():
    assert read_video(animated("GIF", duration=0)).timestamps == pytest.approx((0, 0.1, 0.2, 0.3))
    assert read_video(animated("GIF", duration=10)).timestamps == pytest.approx((0, 0.1, 0.2, 0.3))
    assert read_video(animated("WEBP", duration=16)).timestamps == pytest.approx((0, 0.016, 0.032, 0.048))


def test_picture_for_viewers_without_animation_is_no_frame(caplog: pytest.LogCaptureFixture):
    data = animated("PNG", duration=100, default_image=True)
    assert read_image(data).image.getpixel((0, 0)) == COLOURS[0]
    medium = read_video(data)
    assert medium.indices == (0, 1, 2)
    assert medium.timestamps == pytest.approx((0, 0.1, 0.2))
    assert colours(medium.frames) == COLOURS[1:]


@pytest.mark.parametrize("format", ["GIF", "PNG"])
def test_cut_off_animation_is_used_as_far_as_it_goes(format: str, caplog: pytest.LogCaptureFixture):
    noise = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), dtype=np.uint8)
    data = animated(format, [Image.fromarray(frame) for frame in noise])
    medium = read_video(data[: int(len(data) * 0.7)])
    assert medium.indices == (0, 1)
    assert "is cut off; its frames that are there: 2" in caplog.text
    with pytest.raises(MediaError, match="<bytes>: "):
        read_video(data[: int(len(data) * 0.1)])


@pytest.mark.parametrize("format", ANIMATIONS[2:])
def test_broken_animation_is_not_sent_from_one_flag_to_the_other(format: str):
    data = animated(format)
    for read in (read_image, read_video):
        with pytest.raises(MediaError, match="damaged") as caught:
            read(data[: len(data) // 2])
        assert "--" not in str(caught.value)


def test_orientation_holds_for_every_frame():
    exif = Image.Exif()
    exif[0x0112] = 6
    medium = read_video(animated("WEBP", exif=exif))
    assert (medium.width, medium.height) == (24, 32)
    assert len(medium.frames) == 4


def test_too_large_animation_is_refused_before_it_is_decoded(caplog: pytest.LogCaptureFixture):
    data = animated("PNG")
    for read in (read_image, read_video):
        with pytest.raises(MediaError, match=r"has 32x24 pixels, over the limit of 0.0005 million"):
            read(data, max_megapixels=0.0005)
        read(data, max_megapixels=0.001)


def test_image_and_video_name_each_other_only_where_that_works(tmp_path: Path, clips: dict[str, Path]):
    """Each 'give it with ...' is followed."""
    with pytest.raises(MediaError, match="give it with --video"):
        read_image(clips["h264-cfr"])
    assert read_video(clips["h264-cfr"], num_frames=1).frames
    with pytest.raises(MediaError, match="give it with --image"):
        read_video(write_jpeg(tmp_path / "a.jpg"))
    assert read_image(tmp_path / "a.jpg").width == 64


def test_reading_an_animation_leaves_the_callers_warnings_alone():
    def warn(frame: np.ndarray, count: int) -> None:
        warnings.warn("mine", stacklevel=1)

    with pytest.warns(UserWarning, match="mine"):
        read_video(animated("GIF"), num_frames=1, transform=warn)
