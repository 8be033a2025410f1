"""Every medium in every family: frames, orientations, order, pipes."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.media_files import clip_times, quadrants
from tests.program_real.records import FAMILIES, QUESTION, STATISTICS, record_of


def frames_at(times: list[float], wanted: np.ndarray) -> list[int]:
    """The frames shown nearest to the wanted times; no time here lies midway between two."""
    return [int(np.abs(np.array(times) - time).argmin()) for time in wanted]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("clip", "flags"),
    [
        ("h264", ["--num-frames", "5"]),
        ("mpeg4", ["--num-frames", "5"]),
        ("h264-vfr", ["--num-frames", "5"]),
        ("mpeg4-vfr", ["--fps", "4", "--start", "0.5", "--end", "2.0"]),
    ],
)
def test_frames_are_listed_as_they_were_read(main, family, clip, flags):
    code, out, err = main(family, "--video", f"{clip}.mp4", *flags, "-p", QUESTION, "--format", "json")
    assert code == 0, err
    (medium,) = record_of(out)["media"]
    assert (medium["width"], medium["height"]) == (128, 96)
    times = clip_times(24, vfr="vfr" in clip)
    if flags[0] == "--fps":
        first = min(time for time in times if time >= 0.5)
        last = max(time for time in times if time <= 2.0)
        wanted = np.arange(first, last + 1e-9, 1 / 4)
    else:
        wanted = np.linspace(0, times[-1], 5)
    assert medium["frames"] == frames_at(times, wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_orientation_of_a_picture_gives_the_same_answer(main, folder, family):
    """EXIF says how to turn it: the same pixels, stored in another way, are the same picture."""
    upright = quadrants((96, 160))
    upright.save(folder / "upright.png")
    for tag, stored in {3: upright.rotate(180), 8: upright.rotate(-90, expand=True)}.items():
        exif = stored.getexif()
        exif[0x0112] = tag
        stored.save(folder / f"orientation{tag}.png", exif=exif)
    records = []
    for name in ("upright.png", "orientation3.png", "orientation8.png"):
        code, out, err = main(family, "--image", name, "-p", QUESTION, "--format", "json")
        assert code == 0, err
        records.append(record_of(out))
    assert [(m["width"], m["height"]) for r in records for m in r["media"]] == [(96, 160)] * 3
    assert len({record["text"] for record in records}) == 1
    assert records[0]["usage"] == records[1]["usage"] == records[2]["usage"]


@pytest.mark.parametrize("family", FAMILIES)
def test_several_media_in_the_order_given(main, family):
    media = ["--image", "wide.png", "--image", "turned.jpg", "--video", "h264.mp4", "--num-frames", "2"]
    prompt = "Compare <image> with <image>, then <video>."
    code, out, err = main(family, *media, "-p", prompt, "--format", "json")
    assert code == 0, err
    record = record_of(out)
    assert [m["source"] for m in record["media"]] == ["wide.png", "turned.jpg", "h264.mp4"]
    swapped = ["--image", "turned.jpg", "--image", "wide.png", *media[4:]]
    other = record_of(main(family, *swapped, "-p", prompt, "--format", "json")[1])
    assert [m["source"] for m in other["media"]] == ["turned.jpg", "wide.png", "h264.mp4"]
    assert other["usage"]["visual"] == record["usage"]["visual"]
    assert other["text"] != record["text"]


@pytest.mark.parametrize("family", FAMILIES)
def test_text_only(main, family):
    code, out, err = main(family, "-p", QUESTION, "--format", "json")
    assert code == 0, err
    record = record_of(out)
    assert record["media"] == []
    assert set(record["usage"]["visual"].values()) == {0}
    assert STATISTICS.fullmatch(err)
    assert "visual" not in err


@pytest.mark.parametrize("kind", ["image", "video"])
def test_media_through_a_pipe(main, folder, kind):
    name = {"image": "turned.jpg", "video": "mpeg4.mp4"}[kind]
    flags = ["--num-frames", "3", "-p", QUESTION, "--format", "json"]
    piped = main("llava_onevision", f"--{kind}", "-", *flags, stdin=(folder / name).read_bytes())
    assert piped[0] == 0, piped[2]
    ours, named = record_of(piped[1]), record_of(main("llava_onevision", f"--{kind}", name, *flags)[1])
    assert ours["media"] == [named["media"][0] | {"source": "stdin"}]
    assert (ours["text"], ours["usage"]) == (named["text"], named["usage"])


@pytest.mark.needs("no torchvision")
def test_torchvision_is_not_needed(main):
    assert main("llava_onevision", "--image", "wide.png", "--video", "h264.mp4", "-p", QUESTION)[0] == 0
    assert "torchvision" not in sys.modules
