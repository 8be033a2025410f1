"""A server that is started to be measured: `illava serve -m tiny` itself."""

from __future__ import annotations

import json
import os
import threading

import pytest

from illava_cli.bench.serving import own
from illava_cli.cli.app import main
from illava_cli.errors import Cancelled, UsageError

pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'illava[serve]'")


def test_two_presets_one_after_another(capsys, monkeypatch):
    started = []
    begin = own.OwnServer.__enter__
    monkeypatch.setattr(own.OwnServer, "__enter__", lambda self: started.append(self) or begin(self))
    code = main(
        [
            *("bench", "serve", "-m", "tiny", "--device", "cpu", "--preset", "off", "--preset", "auto"),
            *("--concurrency", "2", "--requests", "4", "--turns", "2", "--max-tokens", "3"),
            *("--equal-length", "--format", "json", "--serve-args", "--max-concurrency 2"),
        ]
    )
    out, err = capsys.readouterr()
    assert code == 0, err
    report = json.loads(out)
    assert [one["equal_length"] for one in report["servers"]] == ["ignore_eos", "ignore_eos"]
    assert [one["about"]["preset"] for one in report["servers"]] == ["off", "auto"]
    off, auto = report["results"]
    for result in (off, auto):
        assert (result["requests"], result["failed"]) == (4, 0), result["errors"]
        assert result["tokens"]["completion_each"] == {"min": 3, "max": 3, "mean": 3}
        assert result["tokens"]["cached"] > 0  # the second turns go on from the first
        assert result["server_seconds"]["vision_s"] > 0
    assert off["tokens"]["visual_saved"] == 0 < auto["tokens"]["visual_saved"]
    assert [one["over"] for one in report["comparison"]] == ["off"]
    assert len(started) == 2
    assert all(one._process.returncode == 0 for one in started)


def test_a_server_that_does_not_start_says_why():
    with (
        pytest.raises(UsageError, match=r"^illava serve: .*--redaers"),
        own.OwnServer(["-m", "tiny", "--redaers", "3"], threading.Event()),
    ):
        pytest.fail("it started")


def test_a_signal_ends_the_wait_for_it():
    stop = threading.Event()
    stop.set()
    server = own.OwnServer(["-m", "tiny"], stop)
    with pytest.raises(Cancelled), server:
        pytest.fail("it started")
    assert server._process.poll() is not None


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_the_processors_that_a_process_took():
    assert own.cpu_seconds(os.getpid()) >= 0
    assert own.cpu_seconds(2**22 + 1) is None
