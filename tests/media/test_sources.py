from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from illava_cli.errors import MediaError, UsageError
from illava_cli.media import expand_sources, read_image, read_video
from tests.media_files import frame_number, write_jpeg


def test_globs_are_sorted_and_keep_their_place(tmp_path: Path):
    for name in ("b.jpg", "a.jpg", "c.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.jpg").mkdir()
    found = expand_sources(["-", str(tmp_path / "c.png"), str(tmp_path / "*.jpg"), "https://host/x?y=[1]*"])
    expected = ["-", *(str(tmp_path / name) for name in ("c.png", "a.jpg", "b.jpg")), "https://host/x?y=[1]*"]
    assert found == expected


def test_double_star_descends(tmp_path: Path):
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "z.jpg").write_bytes(b"x")
    assert expand_sources([str(tmp_path / "**" / "*.jpg")]) == [str(tmp_path / "x" / "y" / "z.jpg")]


def test_existing_name_with_glob_characters_is_literal(tmp_path: Path):
    literal = tmp_path / "photo[1].jpg"
    literal.write_bytes(b"x")
    (tmp_path / "photo1.jpg").write_bytes(b"x")
    assert expand_sources([str(literal)]) == [str(literal)]


def test_expanding_refuses_what_is_not_there(tmp_path: Path):
    with pytest.raises(MediaError, match="no file matches"):
        expand_sources([str(tmp_path / "*.jpg")])
    with pytest.raises(MediaError, match="no such file"):
        expand_sources([str(tmp_path / "a.jpg")])
    with pytest.raises(MediaError, match=r"directory; name its files"):
        expand_sources([str(tmp_path)])
    with pytest.raises(UsageError, match="more than once"):
        expand_sources(["-", "-"])


def test_file_url_is_a_path(tmp_path: Path):
    path = write_jpeg(tmp_path / "a b.jpg")
    assert read_image(path.as_uri()).width == 64
    assert expand_sources([path.as_uri()]) == [path.as_uri()]


def test_stdin_serves_images_and_clips(tmp_path: Path, clips: dict[str, Path], pipe_in):
    pipe_in(write_jpeg(tmp_path / "a.jpg").read_bytes())
    assert read_image("-").source == "stdin"
    pipe_in(clips["h264-cfr"].read_bytes())
    assert [frame_number(frame) for frame in read_video("-", num_frames=3).frames] == [0, 12, 23]


def test_stdin_that_gives_nothing(pipe_in, monkeypatch: pytest.MonkeyPatch):
    pipe_in(b"")
    with pytest.raises(MediaError, match="stdin: holds no bytes"):
        read_image("-")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(MediaError, match="nothing is piped in"):
        read_image("-")


def test_named_pipe_is_read_whole(tmp_path: Path):
    data = write_jpeg(tmp_path / "a.jpg").read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    assert read_image(pipe).height == 48
    writer.join()


def test_a_file_that_is_called_like_a_data_url_is_refused_with_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write_jpeg(tmp_path / "data:a.jpg")
    with pytest.raises(MediaError, match=r"\./ before a file's name"):
        read_image("data:a.jpg")
    assert read_image("./data:a.jpg").source == "./data:a.jpg"
