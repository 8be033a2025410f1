"""The pool of readers: order, what is no longer wanted, what dies and hangs, and the end."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from illava_cli.config import MediaOptions
from illava_cli.errors import Cancelled, MediaError, Timeout
from illava_cli.readers.job import Job
from illava_cli.readers.process import ReaderProcess
from illava_cli.serve.reading import ReaderPool
from tests.conftest import picture
from tests.media_files import write_clip

OPTIONS = MediaOptions(num_frames=2, media_timeout=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for number in range(4):
        picture(60, 40, number).save(folder / f"{number}.png")
    write_clip(folder / "clip.mp4", frames=8)
    os.mkfifo(folder / "stuck.png")  # nobody ever writes to it
    return folder


def job(folder: Path, name: str) -> Job:
    path = [str(folder / name)]
    return Job([], path, OPTIONS) if name.endswith("mp4") else Job(path, [], OPTIONS)


def within_pool(use, processes=1, frame_size=lambda *about: (8, 12), timeout=None, memory_mb=None):
    """What `use` gives with a pool, which is closed then; all of its processes have ended."""
    started = []
    start = ReaderProcess._start

    def watched(self):
        started.append(start(self))
        return started[-1]

    async def main():
        pool = ReaderPool(processes, frame_size, timeout, memory_mb)
        try:
            return await use(pool)
        finally:
            await pool.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReaderProcess, "_start", watched)
        found = asyncio.run(main())
    assert len(started) >= processes
    assert all(process.poll() is not None for process in started)
    return found


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


def test_media_come_as_they_are_and_errors_are_raised(folder):
    async def use(pool):
        with pytest.raises(MediaError, match="no such file"):
            await pool.read(job(folder, "none.png"))
        return await asyncio.gather(
            *(pool.read(job(folder, name)) for name in ("0.png", "clip.mp4", "1.png"))
        )

    first, clip, last = within_pool(use, processes=2)
    assert first.images[0].image.tobytes() == picture(60, 40, 0).tobytes()
    assert last.images[0].image.tobytes() == picture(60, 40, 1).tobytes()
    assert clip.videos[0].frames[0].shape == (8, 12, 3)


def test_processes_are_started_ahead(folder):
    async def use(pool):
        return [process._process.pid for process in pool._idle]

    assert len(set(within_pool(use, processes=3))) == 3


def test_who_asks_first_is_read_first(folder):
    done = []

    async def use(pool):
        async def read(number):
            await pool.read(job(folder, f"{number}.png"))
            done.append(number)

        tasks = [asyncio.create_task(read(number)) for number in range(4)]
        await until(lambda: pool.waiting == 3)
        assert pool.busy == 1
        await asyncio.gather(*tasks)
        assert (pool.busy, pool.waiting) == (0, 0)

    within_pool(use)
    assert done == [0, 1, 2, 3]


def test_what_is_no_longer_wanted_is_ended_at_once(folder):
    async def use(pool):
        stuck = asyncio.create_task(pool.read(job(folder, "stuck.png")))
        await until(lambda: pool.busy == 1)
        process = next(iter(pool._reading))._process
        dropped = asyncio.create_task(pool.read(job(folder, "0.png")))
        last = asyncio.create_task(pool.read(job(folder, "1.png")))
        await until(lambda: pool.waiting == 2)
        dropped.cancel()
        stuck.cancel()
        media = await last
        for task in (stuck, dropped):
            with pytest.raises(asyncio.CancelledError):
                await task
        await asyncio.to_thread(process.wait)
        return media

    assert within_pool(use).images[0].width == 60


def test_many_that_leave_leave_nothing(folder):
    async def use(pool):
        for _ in range(6):
            tasks = [asyncio.create_task(pool.read(job(folder, "stuck.png"))) for _ in range(3)]
            await until(lambda: pool.busy == 2)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (pool.busy, pool.waiting) == (0, 0)
        return await pool.read(job(folder, "0.png"))

    assert within_pool(use, processes=2).images[0].width == 60


def test_a_reader_that_hangs_costs_its_job(folder):
    async def use(pool):
        with pytest.raises(Timeout, match="not read within 1 s"):
            await pool.read(job(folder, "stuck.png"))
        return await pool.read(job(folder, "0.png"))

    assert within_pool(use, timeout=1.0).images[0].width == 60


def test_a_reader_that_dies_costs_its_job(folder):
    pools = []

    def die(*about):
        process = next(iter(pools[0]._reading))._process
        process.kill()
        process.wait()
        return 8, 12

    async def use(pool):
        pools.append(pool)
        with pytest.raises(MediaError, match="the decoder crashed"):
            await pool.read(job(folder, "clip.mp4"))
        # one that died while nobody looked
        process = pool._idle[0]._process
        assert process is not None
        process.kill()
        process.wait()
        return await pool.read(job(folder, "0.png"))

    assert within_pool(use, frame_size=die).images[0].width == 60


def test_an_exception_of_the_exchange_costs_no_place(folder, monkeypatch):
    exchange = ReaderProcess._exchange
    broken = [True]

    def once(self, process, job):
        if broken:
            broken.clear()
            raise MemoryError
        return exchange(self, process, job)

    monkeypatch.setattr(ReaderProcess, "_exchange", once)

    async def use(pool):
        with pytest.raises(MemoryError):
            await pool.read(job(folder, "0.png"))
        return await pool.read(job(folder, "0.png"))

    assert within_pool(use).images[0].width == 60


def test_the_end_cancels_what_is_read_and_what_waits(folder):
    async def use(pool):
        tasks = [asyncio.create_task(pool.read(job(folder, "stuck.png"))) for _ in range(3)]
        await until(lambda: pool.busy == 1 and pool.waiting == 2)
        await pool.close()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in errors] == [Cancelled] * 3
        with pytest.raises(Cancelled):
            await pool.read(job(folder, "0.png"))

    within_pool(use)


def test_sizes_are_asked_in_threads_and_the_loop_goes_on(folder):
    asked, answer = threading.Event(), threading.Event()

    def frame_size(*about):
        asked.set()
        assert answer.wait(60)
        return 8, 12

    async def use(pool):
        reading = asyncio.create_task(pool.read(job(folder, "clip.mp4")))
        await until(asked.is_set)
        answer.set()
        return await reading

    assert within_pool(use, frame_size=frame_size).videos[0].frames[0].shape == (8, 12, 3)
