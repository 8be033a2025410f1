"""A pytest plugin: the outcome of each test goes into the journal as it is known.

A test that takes its process along is left out when the process is started again, and so is what has an
outcome. An error that leaves CUDA unusable would fail all tests after it: its process asks for a new start.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpu_suite.journal import Journal
from gpu_suite.plan import AGAIN

JOURNAL, GROUP = "GPU_SUITE_JOURNAL", "GPU_SUITE_GROUP"  # variables of the environment
SHOWN = 2000  # characters of a failure
STICKY = ("device-side assert", "illegal memory access", "unspecified launch failure", "misaligned address")


def _journal() -> Journal:
    return Journal(Path(os.environ[JOURNAL]))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what an earlier process has tried."""
    journal, group = _journal(), os.environ[GROUP]
    tried: dict[str, str | None] = {}
    for record in journal.read():
        if record["kind"] == "test":
            tried[record["id"]] = record.get("outcome")
    journal.add("collected", group=group, ids=[item.nodeid for item in items])
    for item in items:
        if item.nodeid in tried and tried[item.nodeid] is None:
            message = "its process did not come back from it"
            journal.add("test", id=item.nodeid, outcome="crashed", message=message)
    items[:] = [item for item in items if item.nodeid not in tried]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Nothing left to try is no error."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


def pytest_runtest_logstart(nodeid: str) -> None:
    """A test begins."""
    _journal().add("test", id=nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A part of a test is over."""
    if report.when != "call" and report.passed:
        return
    fields = {"outcome": report.outcome, "seconds": round(report.duration, 3)}
    if report.skipped:
        fields["message"] = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    elif report.failed:
        fields["message"] = report.longreprtext[-SHOWN:]
    _journal().add("test", id=report.nodeid, **fields)
    if report.failed and any(words in report.longreprtext for words in STICKY):
        os._exit(AGAIN)  # not even CUDA's own clean-up would work
