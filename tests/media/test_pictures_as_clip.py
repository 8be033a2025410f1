"""`data:video/jpeg;base64,` and JPEGs with commas between: a clip as the clients of vLLM send it."""

import base64
import io

import pytest
from PIL import Image

from illava_cli.config.options import MediaOptions
from illava_cli.engine.media import read_clip
from illava_cli.errors import MediaError, UsageError
from illava_cli.media import data_urls, locate, read_image, read_video
from tests.media.reading import numbers
from tests.media_files import numbered_frame


def jpeg(number):
    data = io.BytesIO()
    Image.fromarray(numbered_frame(number, (64, 48))).save(data, "JPEG", quality=95)
    return base64.b64encode(data.getvalue()).decode()


def clip(*frames, head="data:video/jpeg;base64"):
    return f"{head},{','.join(frames)}"


@pytest.mark.parametrize("head", ["data:video/jpeg;base64", " DATA:video/JPEG;Base64"])
def test_its_frames_are_read_as_they_come(head):
    medium = read_video(clip(*map(jpeg, range(5)), head=head))
    assert numbers(medium) == [0, 1, 2, 3, 4]
    assert (medium.source, medium.width, medium.timestamps) == (f"<{head.strip()}>", 64, ())


def test_as_many_are_shown_as_of_any_clip():
    url = clip(*map(jpeg, range(9)))
    assert numbers(read_video(url, num_frames=3)) == [0, 4, 8]
    assert numbers(read_clip(url, MediaOptions(num_frames=2), None)) == [0, 8]
    assert numbers(read_video(locate(url), max_frames=2)) == [0, 8]
    with pytest.raises(UsageError, match="have no times"):
        read_video(url, fps=1)


def test_a_frame_that_is_none_is_named(monkeypatch):
    for frames, why in (
        (["####"], "not valid base64"),
        (["AAAA"], "not an image"),
        ([jpeg(1), ""], "is empty"),
    ):
        with pytest.raises(MediaError, match=f"^<data:video/jpeg;base64>: .*{why}"):
            read_video(clip(*frames))
    monkeypatch.setattr(data_urls, "MAX_PICTURES", 3)
    with pytest.raises(MediaError, match="over 3 frames"):
        read_video(clip(*[jpeg(1)] * 4))


def test_all_of_them_count():
    url = clip(*[jpeg(1)] * 4)
    size = len(locate(url).data)
    assert len(data_urls.pictures(url, 4 * size)) == 4
    with pytest.raises(MediaError, match="is over"):
        data_urls.pictures(url, 4 * size - 1)


def test_other_data_urls_are_one_medium():
    assert data_urls.pictures(f"data:image/jpeg;base64,{jpeg(1)}") == []
    assert data_urls.pictures("data:video/jpeg,AA") == []
    assert read_image(f"data:image/jpeg;base64,{jpeg(1)}").width == 64
