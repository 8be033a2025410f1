"""The time and the memory that one medium may take, and how its reading is given up."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from illava_cli.errors import Cancelled, MediaError, Timeout
from illava_cli.media import jpeg, read_video, within
from illava_cli.media.deadline import GivenUp, changed, checkpoint, gathered
from tests.processes import run


def test_what_is_read_is_given_and_what_it_raises_is_raised():
    assert within(lambda: 7, "x", seconds=60) == 7
    with pytest.raises(MediaError, match="broken"):
        within(lambda: (_ for _ in ()).throw(MediaError("broken")), "x")


def test_a_limit_is_one_line_that_names_the_flag():
    for_ever = threading.Event()
    with pytest.raises(Timeout, match=r"^x\.jpg: not read within 0\.01 s \(--media-timeout allows more\)$"):
        within(for_ever.wait, "x.jpg", seconds=0.01)
    for_ever.set()


def test_a_question_that_is_cancelled_gives_its_reading_up():
    started, cancel, ended = threading.Event(), threading.Event(), threading.Event()

    def read() -> None:
        started.set()
        cancel.wait()
        try:
            while True:
                checkpoint()
        except GivenUp:
            ended.set()

    canceller = threading.Thread(target=lambda: (started.wait(), cancel.set()))
    canceller.start()
    with pytest.raises(Cancelled, match="x: no longer read"):
        within(read, "x", cancel=cancel)
    canceller.join()
    assert ended.wait(60)


def test_nothing_is_begun_for_a_question_that_is_cancelled():
    cancel, begun = threading.Event(), threading.Event()
    cancel.set()
    threads = threading.active_count()
    with pytest.raises(Cancelled):
        within(begun.set, "x", cancel=cancel)
    assert threading.active_count() == threads
    assert not begun.is_set()


def test_a_jpeg_without_an_end_is_decoded_no_longer_than_somebody_waits():
    """It is decoded up to nine times."""
    data = io.BytesIO()
    Image.new("RGB", (32, 32)).save(data, "JPEG")
    cancel, given_up, ended = threading.Event(), threading.Event(), threading.Event()

    def read() -> None:
        with changed(cancel.set, given_up.set):
            given_up.wait()
        try:
            jpeg.with_end(data.getvalue()[:-2])
        except GivenUp:
            ended.set()

    with pytest.raises(Cancelled):
        within(read, "x", cancel=cancel)
    assert ended.wait(10)


def test_what_a_reading_changed_is_put_back_as_soon_as_it_is_given_up():
    log, inside, leave, left = [], threading.Event(), threading.Event(), threading.Event()

    def read() -> None:
        with changed(lambda: log.append("do"), lambda: log.append("undo")):
            inside.set()
            leave.wait()
        left.set()

    cancel = threading.Event()
    canceller = threading.Thread(target=lambda: (inside.wait(), cancel.set()))
    canceller.start()
    with pytest.raises(Cancelled):
        within(read, "x", cancel=cancel)
    assert log == ["do", "undo"]
    leave.set()
    assert left.wait(60)
    assert log == ["do", "undo"]  # once
    with changed(lambda: log.append("do"), lambda: log.append("undo")):
        assert log[-1] == "do"
    assert log[-1] == "undo"


def test_nothing_is_changed_for_a_reading_that_was_given_up():
    cancel, ended, errors, log = threading.Event(), threading.Event(), [], []

    def read() -> None:
        cancel.set()
        gone.wait()
        try:
            with changed(lambda: log.append("do"), lambda: log.append("undo")):
                pass
        except GivenUp as error:
            errors.append(error)
        ended.set()

    gone = threading.Event()
    with pytest.raises(Cancelled):
        within(read, "x", cancel=cancel)
    gone.set()
    assert ended.wait(60)
    assert len(errors) == 1
    assert log == []


def test_a_reading_within_another_ends_with_it():
    cancel, inside, ended = threading.Event(), threading.Event(), threading.Event()
    for_ever = threading.Event()

    def inner() -> None:
        inside.set()
        for_ever.wait()

    def outer() -> None:
        try:
            within(inner, "inner")
        finally:
            ended.set()

    canceller = threading.Thread(target=lambda: (inside.wait(), cancel.set()))
    canceller.start()
    with pytest.raises(Cancelled):
        within(outer, "outer", cancel=cancel)
    assert ended.wait(60)
    for_ever.set()


def test_the_bytes_that_are_held_have_a_bound():
    assert gathered([b"ab", b"cd"], "x", 4) == b"abcd"
    with pytest.raises(MediaError, match="x: is over 4 bytes"):
        gathered(iter(lambda: b"abc", b""), "x", 4)


@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_a_clip_ends_between_two_frames(clips, backend):
    """Neither decoder goes on through a long clip that nobody waits for, and stderr can be written to."""
    cancel, first, seen = threading.Event(), threading.Event(), []
    before, go, ended = os.fstat(2), threading.Event(), threading.Event()

    def transform(frame, count):
        checkpoint()
        seen.append(frame)
        first.set()
        go.wait()
        return frame

    def read() -> None:
        try:
            read_video(clips["h264-cfr"], num_frames=24, backend=backend, transform=transform)
        finally:
            ended.set()

    canceller = threading.Thread(target=lambda: (first.wait(), cancel.set()))
    canceller.start()
    with pytest.raises(Cancelled):
        within(read, "x", cancel=cancel)
    go.set()
    assert ended.wait(60)
    assert len(seen) == 1
    assert os.path.samestat(os.fstat(2), before)


def test_who_gives_a_clip_up_can_say_so(clips, monkeypatch):
    """decord's C++ is kept off stderr while it works, and must not take the last word with it."""
    import decord

    inside, leave, cancel, ended = (threading.Event() for _ in range(4))
    before = os.fstat(2)

    def slow(*args, **options) -> None:
        inside.set()
        leave.wait()
        ended.set()
        raise RuntimeError

    monkeypatch.setattr(decord, "VideoReader", slow)
    canceller = threading.Thread(target=lambda: (inside.wait(), cancel.set()))
    canceller.start()
    with pytest.raises(Cancelled):
        within(lambda: read_video(clips["h264-cfr"], num_frames=2, backend="decord"), "x", cancel=cancel)
    assert os.path.samestat(os.fstat(2), before)
    leave.set()
    assert ended.wait(60)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_reading_that_never_ends_keeps_no_process_from_ending(tmp_path: Path):
    os.mkfifo(tmp_path / "x.jpg")
    code = (
        "from illava_cli.media import locate, within\n"
        "try: within(lambda: locate('x.jpg'), 'x.jpg', 0.01)\n"
        "except Exception as error: print(error)\n"
    )
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = run(command, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "x.jpg: not read within 0.01 s" in done.stdout
