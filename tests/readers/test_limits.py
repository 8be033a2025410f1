"""What a reader's process may take: no more memory than it is given, and no core is left of it."""

from __future__ import annotations

import errno
import sys

import numpy as np
import pytest
from PIL import Image

from illava_cli.config import MediaOptions
from illava_cli.errors import MediaError
from illava_cli.readers.inside import OUT_OF_MEMORY, ran_out
from illava_cli.readers.job import Job
from illava_cli.readers.process import ReaderProcess
from tests.media_files import write_clip
from tests.processes import run
from tests.serve.bombs import flat_png

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
OPTIONS = MediaOptions(num_frames=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    for suffix in ("jpg", "png", "webp", "tif"):
        Image.fromarray(noise).save(folder / f"photo.{suffix}")
    write_clip(folder / "clip.mp4", frames=12, size=(640, 480))
    (folder / "bomb.png").write_bytes(flat_png(9900))
    (folder / "large.png").write_bytes(flat_png(5000))
    return folder


@pytest.fixture
def reader():
    reader = ReaderProcess(lambda *about: (384, 384), 512)
    yield reader
    reader.kill()
    reader.close()


def job(folder, *names):
    paths = [str(folder / name) for name in names]
    images = [path for path in paths if not path.endswith("mp4")]
    return Job(images, [path for path in paths if path.endswith("mp4")], OPTIONS)


def test_real_pictures_and_clips_fit_and_a_bomb_costs_itself(folder, reader):
    real = ("photo.jpg", "photo.png", "photo.webp", "photo.tif", "clip.mp4")
    media = reader.read(job(folder, *real), 60)
    assert media.error is None
    assert not media.spent
    process = reader._process

    bomb = reader.read(job(folder, "bomb.png"), 60)
    assert isinstance(bomb.error, MediaError)
    assert "bomb.png: takes more than 512 MiB of memory to decode" in str(bomb.error)
    assert process.poll() is not None

    again = reader.read(job(folder, *real), 60)
    assert (again.error, again.spent) == (None, False)


def test_a_clip_of_which_too_much_would_lie_on_the_disk(folder):
    reader = ReaderProcess(lambda *about: (3600, 3600), 384)
    media = reader.read(job(folder, "clip.mp4"), 60)
    assert isinstance(media.error, MediaError)
    assert "clip.mp4: takes more than 384 MiB of memory to decode" in str(media.error)
    reader.kill()
    reader.close()


def test_a_process_that_came_near_its_bound_ends_after_its_answer(folder):
    reader = ReaderProcess(lambda *about: (8, 8), 384)
    media = reader.read(job(folder, "large.png"), 60)
    assert media.spent
    assert media.error is None
    assert reader._process is None


def test_without_a_bound_it_goes_on(folder):
    reader = ReaderProcess(lambda *about: (8, 8))
    assert not reader.read(job(folder, "large.png"), 60).spent
    reader.kill()
    reader.close()


def test_an_end_without_words_is_explained(folder, reader, monkeypatch):
    program = f"import os; from illava_cli.readers import inside; os._exit({OUT_OF_MEMORY})"
    monkeypatch.setattr("illava_cli.readers.process.PROGRAM", program)
    media = reader.read(job(folder, "photo.jpg"), 60)
    assert "takes more than 512 MiB of memory" in str(media.error)


def test_no_core_is_dumped_and_the_bound_holds():
    code = (
        "import resource; from illava_cli.readers.inside import confine; confine(512); confine(1024);"
        "print(resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_DATA))"
    )
    assert run([sys.executable, "-c", code]).stdout == f"(0, 0) {(512 << 20, 512 << 20)}\n"


def test_what_a_lack_of_memory_is_told_by():
    damaged = MediaError("x: the image is damaged")
    damaged.__context__ = MemoryError()
    for error in (damaged, MemoryError(), RuntimeError("can't start new thread")):
        assert ran_out(error)
    assert ran_out(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert ran_out(OSError(errno.EFBIG, "File too large"))
    assert not ran_out(MediaError("x"))
    assert not ran_out(None)
