"""The frames of a long clip come over from a reader's process, and are not all in memory here either."""

from __future__ import annotations

import pytest

from illava_cli.config import MediaOptions
from illava_cli.errors import OutputError
from illava_cli.media.spool import HELD_BYTES
from illava_cli.readers import pipe, process
from illava_cli.readers.job import Job, read
from illava_cli.readers.process import ReaderProcess
from tests.media_files import write_clip

SIZE = (1000, 1200)
FRAMES = HELD_BYTES // (3 * SIZE[0] * SIZE[1]) + 3  # two more than memory holds


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    long = write_clip(folder / "long.mp4", frames=FRAMES, size=(64, 48))
    short = write_clip(folder / "short.mp4", frames=3, size=(64, 48))
    options = MediaOptions(num_frames=FRAMES)
    return [Job([], [str(long), str(short)], options), Job([], [str(short)], options)]


@pytest.fixture
def reader():
    reader = ReaderProcess(lambda *about: SIZE)
    yield reader
    reader.kill()
    reader.close()


def test_frames_come_as_they_were_read(jobs, reader):
    ours = read(jobs[0], lambda *about: SIZE)
    theirs = reader.read(jobs[0], None)
    assert theirs.error is None
    assert theirs.nbytes == ours.nbytes == (FRAMES + 3) * 3 * SIZE[0] * SIZE[1]
    for one, other in zip(ours.videos, theirs.videos, strict=True):
        assert (one.indices, one.timestamps) == (other.indices, other.timestamps)
        assert one.frames.shapes == other.frames.shapes
        assert all((a == b).all() for a, b in zip(one.frames, other.frames, strict=True))
    assert [video.frames._store._file is not None for video in theirs.videos] == [True, False]
    assert len(reader.read(jobs[1], None).videos[0].frames) == 3


def test_a_disk_that_is_full_there_costs_its_job_only(jobs, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    reader = ReaderProcess(lambda *about: SIZE)
    media = reader.read(jobs[0], None)
    assert isinstance(media.error, OutputError)
    assert "cannot keep a long clip's frames in" in str(media.error)
    assert len(reader.read(jobs[1], None).videos[0].frames) == 3
    reader.kill()
    reader.close()


def test_a_disk_that_is_full_here_costs_its_job_only(jobs, reader, monkeypatch, tmp_path):
    reader.start()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    media = reader.read(jobs[0], None)
    assert isinstance(media.error, OutputError)
    assert len(reader.read(jobs[1], None).videos[0].frames) == 3  # no frame of the other clip


def test_a_process_that_ends_amid_frames_is_explained(jobs, reader, monkeypatch):
    def killed(media, receive):
        reader._process.kill()
        return pipe.complete(media, receive)

    monkeypatch.setattr(process, "complete", killed)
    assert "the decoder crashed (SIGKILL)" in str(reader.read(jobs[0], None).error)
    monkeypatch.undo()
    assert len(reader.read(jobs[1], None).videos[0].frames) == 3
