"""300 mixed inputs, 20 of them broken, on two replicas, one of which is killed midway."""

import os
import signal
from pathlib import Path

import pytest

from tests.batch.test_kill import BATCH, expected, folder, program, records  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.needs("Ray")]


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
    path = folder / "ray.jsonl"
    pid = program.start(*BATCH, "-o", path.name, "--workers", "ray", "--replicas", "2")
    program.wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= 100)
    assert path.read_bytes().count(b"\n") < 250
    victim = replicas_of(pid)[0]
    os.kill(victim, signal.SIGKILL)
    assert program.wait() == 3
    assert records(path) == expected
