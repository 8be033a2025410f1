"""Reader processes: order, the bound of memory, and readers that die, hang or are told to go."""

import os
import signal
import sys
import threading

import pytest

from illava_cli.batch import reading
from illava_cli.batch.item import Item
from illava_cli.batch.reading import ReadAhead, by_media
from illava_cli.config import MediaOptions
from illava_cli.errors import Timeout, UsageError
from illava_cli.media import read_video
from illava_cli.readers import process
from illava_cli.readers.job import Job, read
from illava_cli.readers.process import ReaderProcess
from tests.conftest import picture
from tests.media_files import write_clip
from tests.processes import run

OPTIONS = MediaOptions(num_frames=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    for number in range(6):
        picture(60, 40, number).save(folder / f"{number}.png")
    write_clip(folder / "clip.mp4", frames=8)
    picture(30, 20).save(folder / "moving.gif", save_all=True, append_images=[picture(30, 20, 1)])
    return folder


def frame_size(*about):
    return 8, 12


def job(group):
    return Job(*group[0].sources, OPTIONS)


def together(group, media):
    return group, media


def taken(ahead):
    """All groups and their media, released one by one."""
    stop = threading.Event()
    while not ahead.exhausted:
        group, media = ahead.take(stop)
        ahead.release(media)
        yield group[0].id, media


def items(folder, *names):
    kinds = [("images" if name.endswith(("png", "gif")) else "videos", name) for name in names]
    return by_media([Item(name, "?", folder=str(folder), **{kind: (name,)}) for kind, name in kinds])


@pytest.mark.parametrize("processes", [0, 2])
def test_media_come_in_order_and_as_read_here(folder, processes):
    groups = items(folder, *(f"{n}.png" for n in range(6)), "gone.png", "clip.mp4")
    with ReadAhead(groups, job, frame_size, together, processes=processes) as ahead:
        found = dict(taken(ahead))
    assert list(found) == [group[0].id for group in groups]
    for number in range(6):
        (image,) = found[f"{number}.png"].images
        assert image.image.tobytes() == picture(60, 40, number).tobytes()
        assert image.source == str(folder / f"{number}.png")
    assert "no such file" in str(found["gone.png"].error)
    (clip,) = found["clip.mp4"].videos
    assert [frame.shape for frame in clip.frames] == [(8, 12, 3)] * 2
    here = read_video(folder / "clip.mp4", num_frames=2)
    assert (clip.indices, clip.width, clip.height) == (here.indices, here.width, here.height)
    assert ahead.read_s > 0


@pytest.mark.parametrize("processes", [0, 1])
def test_a_size_follows_from_the_number_of_frames_and_the_options(folder, processes):
    asked = []

    def frame_size(*about):
        asked.append(about)
        return 8, 12

    with ReadAhead(items(folder, "clip.mp4"), job, frame_size, together, processes=processes) as ahead:
        dict(taken(ahead))
    clip = read_video(folder / "clip.mp4", num_frames=2)
    assert asked == [((clip.height, clip.width), 2, OPTIONS)]  # once, for both frames


def test_warnings_come_along(folder):
    with ReadAhead(items(folder, "moving.gif"), job, frame_size, together, processes=1) as ahead:
        ((_, media),) = taken(ahead)
    assert len(media.warnings) == 1
    assert "only the first is used" in media.warnings[0]


def test_a_size_that_is_refused_is_the_error(folder):
    def refuse(*about):
        raise UsageError("images only")

    with ReadAhead(items(folder, "clip.mp4", "0.png"), job, refuse, together, processes=1) as ahead:
        found = dict(taken(ahead))
    assert isinstance(found["clip.mp4"].error, UsageError)
    assert found["0.png"].error is None


def test_a_reader_that_dies_costs_one_answer(folder):
    def die(*about):
        reader = ahead._processes[0]._process
        reader.send_signal(signal.SIGSEGV)
        reader.wait()
        return 8, 8

    groups = items(folder, "0.png", "clip.mp4", "1.png")
    with ReadAhead(groups, job, die, together, processes=1) as ahead:
        found = dict(taken(ahead))
    assert "the decoder crashed (SIGSEGV)" in str(found["clip.mp4"].error)
    assert [found[name].error for name in ("0.png", "1.png")] == [None, None]


def test_a_reader_that_hangs_is_ended(folder, tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)  # nobody ever writes to it
    groups = [*items(folder, "0.png"), [Item("pipe", "?", (str(pipe),))], *items(folder, "1.png")]
    with ReadAhead(groups, job, frame_size, together, processes=1, timeout=2) as ahead:
        found = dict(taken(ahead))
    assert type(found["pipe"].error).__name__ == "Timeout"
    assert "not read within 2 s" in str(found["pipe"].error)
    assert found["1.png"].error is None


def test_a_reader_that_is_ended_when_it_has_just_answered_costs_nothing(folder, monkeypatch):
    exchange = ReaderProcess._exchange

    def in_the_last_moment(self, process, job):
        media = exchange(self, process, job)
        if job.images[0].endswith("0.png"):
            process.wait()  # until time is up
        return media

    monkeypatch.setattr(ReaderProcess, "_exchange", in_the_last_moment)
    with ReadAhead(
        items(folder, "0.png", "1.png"), job, frame_size, together, processes=1, timeout=2
    ) as ahead:
        assert [media.error for _, media in taken(ahead)] == [None, None]


def test_a_pipe_of_this_process_is_read_here(folder):
    read_end, write_end = os.pipe()
    os.write(write_end, (folder / "0.png").read_bytes())
    os.close(write_end)
    groups = by_media([Item("pipe", "?", (f"/dev/fd/{read_end}",))])
    try:
        with ReadAhead(groups, job, frame_size, together, processes=1) as ahead:
            ((_, media),) = taken(ahead)
    finally:
        os.close(read_end)
    assert media.error is None
    assert media.images[0].width == 60


def test_a_dash_in_a_list_is_a_file_of_that_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    # a reader's stdin is where its jobs come from: it must not be taken for a picture
    groups = [by_media([Item("dash", "?", ("-",), folder=given)])[0] for given in ("", ".")]
    with ReadAhead(groups, job, frame_size, together, processes=1, timeout=10) as ahead:
        for _, media in taken(ahead):
            assert "./-: no such file" in str(media.error)


def test_memory_is_bounded(folder, monkeypatch):
    groups = items(folder, *(f"{n}.png" for n in range(6)))
    one = read(job(groups[0]), frame_size).nbytes
    with ReadAhead(groups, job, frame_size, together, processes=0, max_bytes=one) as ahead:
        stop = threading.Event()
        held = []
        while (got := ahead.take(stop)) is not None:
            held.append(got[1])
        # what was being read when the bound was met: two groups at most
        assert 1 <= len(held) <= 3
        assert not ahead.exhausted
        for media in held:
            ahead.release(media)
        assert len(list(taken(ahead))) == 6 - len(held)


def test_leaving_early_ends_the_processes(folder):
    groups = items(folder, *(f"{n}.png" for n in range(6)))
    with ReadAhead(groups, job, frame_size, together, processes=2) as ahead:
        ahead.take(threading.Event())
        started = [process._process for process in ahead._processes if process._process]
    assert started
    assert all(process.poll() is not None for process in started)
    stop = threading.Event()
    stop.set()
    with ReadAhead(groups, job, frame_size, together, processes=1) as ahead:
        assert ahead.take(stop) is None


def test_same_media_are_read_once():
    many = [Item(f"{n}", "?", ("a.png",) if n % 2 else ("b.png",)) for n in range(4)]
    many.append(Item("other frames", "?", ("a.png",), settings={"media": {"max_tiles": 1}}))
    assert [[item.id for item in group] for group in by_media(many)] == [
        ["0", "2"],
        ["1", "3"],
        ["other frames"],
    ]


def test_a_reader_needs_no_torch():
    code = (
        "import sys, illava_cli.readers.inside; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("processes", [0, 1])
def test_a_pipe_named_like_a_picture_costs_its_time_and_no_more(folder, tmp_path, processes):
    """Nothing ever comes out of it; the next medium is read, by a reader that has nothing else to do."""
    os.mkfifo(tmp_path / "x.png")
    picture(60, 40).save(tmp_path / "y.png")

    def hasty(group):
        seconds = 0.05 if group[0].id == "x.png" else 60.0
        return Job(*group[0].sources, OPTIONS.model_copy(update={"media_timeout": seconds}))

    with ReadAhead(
        items(tmp_path, "x.png", "y.png"), hasty, frame_size, together, processes=processes
    ) as ahead:
        found = dict(taken(ahead))
    error = found["x.png"].error
    assert isinstance(error, Timeout)
    assert str(error) == f"{tmp_path}/x.png: not read within 0.05 s (--media-timeout allows more)"
    assert found["y.png"].images[0].width == 60


def test_a_reading_in_this_process_does_not_hold_up_the_end(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "x.png")
    begun = threading.Event()
    inside = reading.read

    def read(*arguments):
        begun.set()
        return inside(*arguments)

    monkeypatch.setattr(reading, "read", read)
    with ReadAhead(items(tmp_path, "x.png"), job, frame_size, together, processes=0):
        assert begun.wait(60)


def test_a_reader_that_dies_tells_no_password_and_no_megabytes(monkeypatch):
    monkeypatch.setattr(process, "PROGRAM", "print()")
    reader = ReaderProcess(frame_size)
    media = reader.read(Job(["http://jo:secret@host/a.png", "data:image/png;base64,AAAA"], [], OPTIONS), None)
    reader.kill()
    assert "http://host/a.png, <data:image/png;base64>: the decoder " in str(media.error)
