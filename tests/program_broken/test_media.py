"""Broken pictures and clips: one line, exit 1, nothing written; what can be used is used."""

from __future__ import annotations

import json
import os
import struct
import sys

import pytest
from PIL import Image

from illava_cli.media import read_video
from tests import processes
from tests.media_files import frame_number, numbered_frame, write_clip
from tests.program_broken.lines import ASK, LLAVA, QWEN, one_line


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("missing.jpg", "no such file"),
        ("empty.jpg", "empty"),
        ("truncated.jpg", "damaged or cut off"),
        ("text.jpg", "text file"),
        ("bomb.png", "over the limit of 100 million"),
        ("good.mp4", "--video"),
        ("", "empty"),
        ("data:image/png;base64," + "A" * 9000, "<data:image/png;base64>: is in no image format"),
        ("data:image/png;base64," + "!" * 9000, "<data:image/png;base64>: is not valid base64"),
        ("x" * 9000, "File name too long"),
    ],
)
def test_bad_picture(run, files, name, part):
    source = str(files / name) if name.endswith((".jpg", ".png", ".mp4")) else name
    done = run("--image", source, *ASK, "-o", "answer.txt")
    one_line(done, 1, part)
    assert len(done[2]) < 500
    assert os.listdir() == []


def test_the_first_bad_picture_among_good_ones_is_named(run, files):
    images = [part for name in ("good.jpg", "text.jpg") for part in ("--image", str(files / name))]
    one_line(run(*images, *ASK), 1, str(files / "text.jpg"))


def test_a_picture_with_the_wrong_extension_works(run, files):
    code, out, err = run("--image", str(files / "png.jpg"), *ASK)
    assert (code, err.count("\n")) == (0, 1)
    assert out == run("--image", str(files / "png.jpg"), *ASK, "--no-stream")[1] != ""


def test_a_failure_in_json_is_one_record_and_the_file_is_not_made(run, files):
    code, out, err = run("--image", str(files / "text.jpg"), *ASK, "--format", "json", "-o", "answer.json")
    assert code == 1
    assert out.count("\n") == err.count("\n") == 1
    record = json.loads(out)
    assert (record["status"], record["text"]) == ("error", "")
    assert err == f"illava: error: {record['error']['message']}\n"
    assert os.listdir() == []


def test_pil_says_nothing_on_stderr(tmp_path):
    """It logs this damage too, and Python prints what is logged without a handler."""
    path = tmp_path / "channels.tiff"
    Image.new("RGB", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    entry = struct.pack("<HHI", 277, 3, 1)  # SamplesPerPixel, one SHORT
    place = data.index(entry) + len(entry)
    data[place : place + 2] = struct.pack("<H", 2048)
    path.write_bytes(data)
    script = (
        "import sys\nfrom illava_cli.errors import MediaError\nfrom illava_cli.media import read_image\n"
        "try:\n    read_image(sys.argv[1])\nexcept MediaError as error:\n    print(error)"
    )
    done = processes.run([sys.executable, "-c", script, path])
    assert (done.returncode, done.stderr) == (0, "")
    assert "looks like a TIFF image" in done.stdout


@pytest.mark.parametrize("family", [LLAVA, QWEN])
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("missing.mp4", "no such file"),
        ("empty.mp4", "empty"),
        ("text.mp4", "text file"),
        ("sound.mp4", "no video stream"),
        ("none.mp4", "no frame that decodes"),
        ("codec.mp4", "format not known"),
        ("good.jpg", "--image"),
    ],
)
def test_bad_clip(run, files, name, part, family):
    one_line(run("--video", str(files / name), *ASK, "-o", "answer.txt", family=family), 1, part)
    assert os.listdir() == []


@pytest.mark.parametrize("family", [LLAVA, QWEN])
def test_a_clip_that_is_cut_off_is_used_as_far_as_it_goes(run, files, family):
    flags = ["--video", str(files / "cut.mp4"), *ASK, "--format", "json", "--num-frames", "6"]
    code, out, err = run(*flags, family=family)
    assert code == 0, err
    *warnings, _ = err.splitlines()
    assert all(line.startswith("illava: warning: ") for line in warnings)
    assert "is cut off" in warnings[0]
    frames = json.loads(out)["media"][0]["frames"]
    assert len(frames) == 6
    assert frames[0] == 0
    assert 20 < frames[-1] < 59

    code, out, err = run(*flags, "-q", family=family)
    assert (code, err) == (0, "")
    assert json.loads(out)["media"][0]["frames"] == frames


@pytest.mark.parametrize("family", [LLAVA, QWEN])
def test_a_clip_of_one_frame_works(run, files, family):
    code, out, err = run("--video", str(files / "one.mp4"), *ASK, "--format", "json", family=family)
    assert (code, err.count("\n")) == (0, 1)
    assert json.loads(out)["media"][0]["frames"] == [0]


@pytest.mark.parametrize("size", [(16, 64), (48, 64), (72, 48)])
def test_narrow_clips_show_their_own_pixels(run, tmp_path, size):
    """decord gives frames of these widths with another number of channels."""
    path = write_clip(tmp_path / "narrow.mp4", frames=6, size=size)
    medium = read_video(path)
    assert [frame.shape for frame in medium.frames] == [(size[1], size[0], 3)] * 6
    if size[0] > 16:
        assert [frame_number(frame) for frame in medium.frames] == list(range(6))
        assert abs(medium.frames[5].astype(int) - numbered_frame(5, size)).mean() < 20
    code, _, err = run("--video", str(path), *ASK)
    assert (code, err.count("\n")) == (0, 1)


@pytest.mark.parametrize("table", [b"stts", b"stss"])
def test_a_clip_with_a_damaged_table(tmp_path, table):
    """decord reserves memory for the absurd number of frames of the first, and ends the process where it
    cannot; of the second, which is to say where keyframes are, it complains on stderr by itself."""
    path = write_clip(tmp_path / "clip.mp4", size=(64, 48))
    data = bytearray(path.read_bytes())
    data[data.index(table) + 12] = 0xDA  # the first number in the table
    path.write_bytes(data)
    script = (
        "import sys; from illava_cli.media import read_video; "
        "print(len(read_video(sys.argv[1], num_frames=4).frames))"
    )
    done = processes.run([sys.executable, "-c", script, path])
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")


@pytest.mark.parametrize("family", [LLAVA, QWEN])
def test_a_window_after_the_end(run, files, family):
    done = run("--video", str(files / "good.mp4"), *ASK, "--start", "60", family=family)
    one_line(done, 1, "60 s", "last frame of the clip is at 4.917 s")
