"""Whoever waits for a long clip can be told how far it has come: read, and through the tower."""

from __future__ import annotations

import threading

import pytest

from illava_cli.config import MediaOptions
from illava_cli.engine.media import read_clip
from illava_cli.engine.request import Request
from illava_cli.errors import Cancelled, OutOfMemory
from illava_cli.media.decord_reader import DecordReader
from illava_cli.media.reader import UnreadableFrames
from tests.conftest import clip, picture
from tests.media_files import write_clip


@pytest.fixture
def session(open_session, monkeypatch):
    """One whose tower takes two segments of a clip at a time, and that has encoded nothing."""
    session = open_session("qwen2_vl", "preset=off", fresh=True)
    family = session.family
    size = family.frame_size((64, 64), 8)
    segment = family.geometry("video", size, 8).tokens * family.bytes_per_token()
    monkeypatch.setattr(family, "chunk_bytes", 2 * segment)
    return session


def test_a_clip_is_read_and_goes_through_the_tower(session, tmp_path):
    told = []
    path = write_clip(tmp_path / "clip.mp4", frames=10, size=(64, 64))
    with_it = session.updated(["num_frames=9"])
    answer = with_it.ask("What?", videos=[path], progress=lambda *about: told.append(about))
    assert told == [
        *(("read", frame, 9) for frame in range(1, 10)),
        *(("encode", steps, 5) for steps in (0, 2, 4, 5)),  # two frames each
    ]
    told.clear()
    assert with_it.ask("What?", videos=[path], progress=lambda *about: told.append(about)).text == answer.text
    assert told == [("read", frame, 9) for frame in range(1, 10)]  # its features are there


def test_an_answer_does_not_depend_on_who_listens(session):
    about = "What?", [picture(60, 60)], [clip(3, 64, 64)]
    answer = session.ask(*about, logits=True)
    session.features.clear()
    told = []
    heard = session.ask(*about, logits=True, progress=lambda *about: told.append(about))
    assert heard.text == answer.text
    assert (heard.logits == answer.logits).all()
    assert told[-1] == ("encode", 3, 3)  # a picture and two steps


def test_who_listens_to_one_of_a_batch_hears_of_all_that_goes_through_with_it(session):
    told = []
    asked = [session.prepare(Request("What?", [picture(60, 60, number)])) for number in range(2)]
    listeners = None, lambda *about: told.append(about)
    turns = [session.turn(one, progress=listener) for one, listener in zip(asked, listeners, strict=True)]
    session.runner.encode(turns)
    assert told[0] == ("encode", 0, 2)
    assert told[-1] == ("encode", 2, 2)


def test_what_fails_is_not_told_to_be_done(session, monkeypatch):
    def full(*_, **__):
        raise OutOfMemory("none left")

    told = []
    monkeypatch.setattr(session.family, "run_tower", full)
    with pytest.raises(OutOfMemory):
        session.ask("What?", videos=[clip(8, 64, 64)], progress=lambda *about: told.append(about))
    assert ("encode", 0, 4) in told
    assert ("encode", 4, 4) not in told


def test_a_second_decoder_tells_of_no_more_frames_than_there_are(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4", frames=8, size=(64, 64))
    told = []
    inside = DecordReader.read

    def breaks(self, indices):
        yield from inside(self, indices[:3])
        raise UnreadableFrames("it is broken")

    monkeypatch.setattr(DecordReader, "read", breaks)
    options = MediaOptions(num_frames=8)
    assert len(read_clip(path, options, None, on_frame=lambda *about: told.append(about)).frames) == 8
    assert len(told) == 11
    assert told[-1] == max(told) == (8, 8)


def test_a_question_can_be_given_up_by_who_is_told(session, tmp_path):
    path = write_clip(tmp_path / "clip.mp4", frames=8, size=(64, 64))
    cancel = threading.Event()
    told = []

    def until_three(stage, done, total):
        told.append(done)
        if done == 3:
            cancel.set()

    with pytest.raises(Cancelled):
        session.ask("What?", videos=[path], cancel=cancel, progress=until_three)
    assert told[:3] == [1, 2, 3]
