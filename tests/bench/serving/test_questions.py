"""What is asked: pictures that differ, some again, clips, and media of the user's."""

import numpy as np
import pytest

from illava_cli.bench.serving import questions as asked
from illava_cli.bench.serving.questions import Asked, Recorded, Synthetic
from illava_cli.errors import UsageError
from illava_cli.media import read_image, read_video
from tests.conftest import picture


def urls(questions, count, kind="image"):
    return [questions.content(number)[0][f"{kind}_url"]["url"] for number in range(count)]


def test_no_two_pictures_are_alike():
    questions = Synthetic("What?", (96, 64), None, 0.0, seed=1)
    assert all(questions.prepare(number) for number in range(3))
    found = [np.asarray(read_image(url).image) for url in urls(questions, 6)]
    assert {one.shape for one in found} == {(64, 96, 3)}
    assert len({one.tobytes() for one in found}) == 6
    assert questions.content(6)[1] == {"type": "text", "text": "What?"}


def test_equal_seeds_are_equal_pictures_and_other_seeds_others():
    first, again, other = (urls(Synthetic("", (32, 32), None, 0.0, seed), 3) for seed in (1, 1, 2))
    assert first == again
    assert not set(first) & set(other)


@pytest.mark.parametrize(("repeat", "least", "most"), [(0.0, 200, 200), (0.5, 80, 120), (1.0, 1, 1)])
def test_a_share_is_about_pictures_that_were_asked_about(repeat, least, most):
    questions = Synthetic("", (16, 16), None, repeat, seed=3)
    assert least <= len(set(urls(questions, 200))) <= most


def test_what_is_made_ahead_is_bounded(monkeypatch):
    whole = urls(Synthetic("", (32, 32), None, 0.5, seed=1), 20)
    monkeypatch.setattr(asked, "MOST_BYTES", 3 * len(whole[0]))
    questions = Synthetic("", (32, 32), None, 0.5, seed=1)
    assert not all(questions.prepare(number) for number in range(20))
    assert urls(questions, 20) == whole  # the others are made when they are asked
    assert len(questions._made) < 6


def test_clips_have_their_frames():
    questions = Synthetic("What?", (64, 48), 5, 0.0, seed=1)
    first, second = urls(questions, 2, "video")
    assert first != second
    frames = read_video(first, num_frames=None, fps=1.0).frames
    assert np.asarray(frames).shape[:3] == (5, 48, 64)
    assert questions.describe()["frames"] == 5


def test_media_of_the_users_are_asked_in_turn(tmp_path):
    paths = []
    for seed in range(2):
        paths.append(str(tmp_path / f"{seed}.png"))
        picture(20, 20, seed).save(paths[-1])
    questions = Recorded([Asked("First <image> what?", [paths[0]]), Asked("Second", paths)])
    assert [part["type"] for part in questions.content(0)] == ["text", "image_url", "text"]
    assert [part["type"] for part in questions.content(1)] == ["image_url", "image_url", "text"]
    assert questions.content(2) == questions.content(0)
    assert questions.media == 2
    assert questions.describe() == {"synthetic": False, "questions": 2, "names": ["0.png", "0.png", "1.png"]}


def test_a_marker_too_many_is_refused():
    with pytest.raises(UsageError, match="2 <image>"):
        Recorded([Asked("<image> <image>", [])])
