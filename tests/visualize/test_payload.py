"""What a page calls the media that it shows."""

from __future__ import annotations

import pytest

from illava_cli.visualize.payload import names_of
from illava_cli.visualize.pictures import Medium


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
