"""300 mixed inputs, 20 of them broken, on two replicas, one of which is killed midway."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.batch.test_kill import BATCH, expected, folder, program, records  # noqa: F401

pytestmark = pytest.mark.slow


def replicas_of(pid):
    """Processes below `pid` that hold a model."""
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(entry.name)] = (entry / "cmdline").read_text()
        except OSError:
            continue  # it has ended

    def below(process):
        return process == pid or (process in parents and below(parents[process]))

    return [process for process, name in names.items() if "ray::MapWorker" in name and below(process)]


def test_a_replica_that_is_killed_costs_nothing(folder, program, expected):  # noqa: F811
    pytest.importorskip("ray", reason="--workers ray needs ray")
    path = folder / "ray.jsonl"
    pid = program.start(*BATCH, "-o", path.name, "--workers", "ray", "--replicas", "2")
    while not path.exists() or path.read_bytes().count(b"\n") < 100:
        time.sleep(0.05)
    assert path.read_bytes().count(b"\n") < 250
    victim = replicas_of(pid)[0]
    os.kill(victim, signal.SIGKILL)
    assert program.wait() == 3
    assert records(path) == expected
