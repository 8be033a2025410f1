"""What a record says of the media that were read."""

from __future__ import annotations

from pathlib import Path

import pytest

from illava_cli import load
from illava_cli.engine.record import Generation, MediaRecord
from tests.media_files import write_clip, write_jpeg


def test_only_videos_have_frames_and_times():
    media = (
        MediaRecord("a.jpg", "image", 4, 3),
        MediaRecord("b.mp4", "video", 4, 3, frames=[0, 5], times=[0.0, 0.417]),
    )
    image, video = Generation("", None, "", "", 0, "", media=media).record()["media"]
    assert image == {"source": "a.jpg", "kind": "image", "width": 4, "height": 3}
    assert video == image | {"source": "b.mp4", "kind": "video", "frames": [0, 5], "times": [0.0, 0.417]}


@pytest.mark.parametrize("late_s", [0.0, 2.0])
def test_times_are_in_seconds_from_the_start_of_the_clip(tmp_path: Path, late_s: float):
    clip = write_clip(tmp_path / "clip.mp4", sound=True, late_s=late_s)
    session = load("random:llava-onevision-toy", device="cpu", max_tokens=1)
    answer = session.ask("?", images=[write_jpeg(tmp_path / "a.jpg")], videos=[clip])
    image, video = answer.record()["media"]
    assert "times" not in image
    assert video["frames"] == list(range(24))
    assert video["times"] == [round(late_s + index / 12, 3) for index in range(24)]
