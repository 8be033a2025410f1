"""Frames beyond what memory is to hold: the same frames, in a file that goes with them."""

from __future__ import annotations

import errno
import gc
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from illava_cli.errors import OutputError
from illava_cli.media import read_video, spool
from illava_cli.media.spool import Spool
from tests.media.reading import numbers

FRAMES = [np.random.default_rng(n).integers(0, 256, (8, 6 + n % 2, 3), dtype=np.uint8) for n in range(9)]


@pytest.fixture
def frames(monkeypatch):
    """Of which three are in memory and six in the file."""
    monkeypatch.setattr(spool, "HELD_BYTES", sum(frame.nbytes for frame in FRAMES[:3]))
    return Spool.of(iter(FRAMES))


@pytest.fixture
def nothing_held(monkeypatch):
    """All frames go into the file."""
    monkeypatch.setattr(spool, "HELD_BYTES", 0)


def same(spooled, frames):
    return [x.tobytes() for x in spooled] == [x.tobytes() for x in frames] and len(spooled) == len(frames)


def test_frames_are_as_they_came(frames):
    assert same(frames, FRAMES)
    assert same(frames, FRAMES)  # once more
    assert all(frame.dtype == np.uint8 for frame in frames)
    assert frames[0] is FRAMES[0]
    assert [frames[i].shape for i in (-1, 8, 3)] == [FRAMES[i].shape for i in (-1, 8, 3)]
    assert same(frames[2:7], FRAMES[2:7])
    assert same(frames[::-2], FRAMES[::-2])
    assert same(frames[1:][1:4].chosen([2, 0]), [FRAMES[4], FRAMES[2]])
    with pytest.raises(IndexError):
        frames[9]
    assert not len(Spool.of([]))


def test_what_is_not_asked_for_is_not_read(frames, monkeypatch):
    read = []
    inside = spool._Store.read
    monkeypatch.setattr(spool._Store, "read", lambda self, place: read.append(place) or inside(self, place))
    part = frames[4:7]
    assert frames.shapes == [frame.shape for frame in FRAMES]
    assert part.shapes == frames.shapes[4:7]
    assert frames.nbytes == sum(frame.nbytes for frame in FRAMES)
    assert not read
    assert same(part, FRAMES[4:7])
    assert read == [4, 5, 6]


def test_what_does_not_lie_in_a_row_is_filed_as_it_is_seen(nothing_held):
    turned = [frame.transpose(1, 0, 2)[::-1] for frame in FRAMES]
    assert same(Spool.of(turned), turned)


def test_what_else_a_transform_makes_stays_in_memory(nothing_held):
    things = ["a", (1, 2), np.zeros(3), FRAMES[0]]
    made = Spool.of(things)
    assert made[0:3].chosen([0, 1, 2])[2] is things[2]
    assert list(made)[:2] == things[:2]
    assert made[3].tobytes() == FRAMES[0].tobytes()


def test_the_file_has_no_name_and_goes_with_the_last_who_knows_its_frames(
    tmp_path, monkeypatch, nothing_held
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    frames = Spool.of(FRAMES)
    assert not list(tmp_path.iterdir())
    file = frames._store._file
    part = frames[5:]
    del frames
    gc.collect()
    assert same(part, FRAMES[5:])
    del part
    gc.collect()
    assert file.closed


def test_few_frames_make_no_file():
    assert Spool.of(FRAMES)._store._file is None


def test_threads_read_at_the_same_time(frames):
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda n: frames[n % 9].tobytes() == FRAMES[n % 9].tobytes(), range(900))
    assert all(found)


def test_pickled_it_is_whole(frames):
    assert same(pickle.loads(pickle.dumps(frames[2:6])), FRAMES[2:6])


def test_where_the_file_goes(tmp_path, monkeypatch, nothing_held):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert spool._folder() == str(tmp_path)
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr(spool, "LARGE", str(tmp_path))
    assert spool._folder() == str(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert spool._folder() is None
    monkeypatch.setattr(spool, "LARGE", str(tmp_path / "gone"))
    assert spool._folder() is None
    assert same(Spool.of(FRAMES), FRAMES)


class Full:
    """A file on a disk on which there is no more room."""

    closed = False

    def tell(self):
        return 0

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self):
        self.closed = True


def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path, monkeypatch, nothing_held):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    file = Full()
    monkeypatch.setattr(spool.tempfile, "TemporaryFile", lambda **options: file)
    with pytest.raises(OutputError) as raised:
        Spool.of(FRAMES)
    assert str(raised.value) == (
        f"cannot keep a long clip's frames in {tmp_path}: No space left on device; make room, name another "
        "folder in TMPDIR, or read fewer frames (--num-frames)"
    )
    del raised
    gc.collect()
    assert file.closed


def test_a_folder_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    assert same(Spool.of(FRAMES), FRAMES)  # which are few
    monkeypatch.setattr(spool, "HELD_BYTES", 0)
    with pytest.raises(OutputError, match="gone: No such file or directory; make room"):
        Spool.of(FRAMES)


def test_a_clip_is_as_it_was(read, clips, nothing_held):
    medium = read(clips["h264-cfr"], num_frames=5)
    assert medium.frames._store._file is not None
    assert numbers(medium) == list(medium.indices) == [0, 6, 12, 17, 23]
    assert numbers(read_video(medium.frames, num_frames=2)) == [0, 23]  # frames are pictures again
