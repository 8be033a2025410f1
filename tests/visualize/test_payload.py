"""The media that a page shows: their names, their pictures."""

from __future__ import annotations

import numpy as np
import pytest

from illava_cli.media import VideoMedium
from illava_cli.trace import View
from illava_cli.visualize.payload import names_of
from illava_cli.visualize.pictures import Medium, read_media


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        ([("image", "a/x.jpg"), ("video", "<data:video/mp4;base64>")], ["a/x.jpg", "video"]),
        (
            [("image", "<bytes>"), ("image", "y.png"), ("image", "<data:image/png;base64>")],
            ["image 1", "y.png", "image 3"],
        ),
    ],
)
def test_what_has_no_name_is_called_by_its_kind_and_number(sources, names):
    assert names_of([Medium(kind, source, (), 0) for kind, source in sources]) == names


def test_a_clip_that_was_read_for_the_tower_is_shown_in_its_own_proportions():
    frames = [np.full((28, 28, 3), shade, np.uint8) for shade in (0, 255)]  # squashed to what a tower wants
    clip = VideoMedium("<data:video/mp4;base64>", frames, (0, 5), (0.0, 0.5), width=320, height=160)
    views = [View(2, 2, frame=number) for number in (0, 1)]
    (medium,) = read_media([], [clip], [views], {})
    assert [picture.image.size for picture in medium.pictures] == [(320, 160), (320, 160)]
    assert [picture.label for picture in medium.pictures] == ["frame 0 (0.0 s)", "frame 5 (0.5 s)"]
    assert [np.asarray(picture.image).mean() for picture in medium.pictures] == [0, 255]
