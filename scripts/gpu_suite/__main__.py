"""`scripts/gpu_suite.sh`: run the steps one after another within the time, and keep the pages up to date."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NoReturn

from gpu_suite import pages, told, wheels
from gpu_suite.gathered import gather
from gpu_suite.jobs import Job, run
from gpu_suite.journal import Journal, read
from gpu_suite.plan import Suite, suite

ROOT = Path(__file__).resolve().parents[2]
JOURNAL, LOG = "gpu-results.jsonl", "gpu-log.txt"
MACHINE, TESTS, LATER = "machine", "tests", "tests that are left"
SHARES = {MACHINE: 0.2, TESTS: 0.3, LATER: 1.0}  # of the time that is left
RESERVE_S = 4.0  # for ending processes and writing the last pages
LEAST_S = 6.0  # what no step is begun under
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TEST_S = 90  # of one test, where pytest-timeout is there


class Stopped(Exception):
    """A signal asks for the end."""


class Conductor:
    """One run of the suite into one folder."""

    def __init__(self, edition: Suite, out: Path, end: float, toy: bool):
        self.edition, self.out, self.end, self.toy = edition, out, end, toy
        self.journal = Journal(out / JOURNAL)
        self.shown = -1  # bytes of the journal that are on the pages
        self.spoken = 0  # records that were told on stderr

    def step(self, name: str) -> None:
        """Run a step, if there is time for it, and write down how it went."""
        left = self.end - time.monotonic() - RESERVE_S
        if left < LEAST_S:
            self.journal.add("step", name=name, state="not run", why="no time was left")
            return
        shares = SHARES | {model.name: model.share for model in self.edition.models}
        limit = left * shares[name]
        self.journal.add("step", name=name, state="running", limit_s=round(limit, 1))
        started = time.monotonic()
        state = "cut off"
        try:
            ended = run(self._jobs(name), limit, self.out / LOG, self.refresh)
            bad = [how if job == name else f"{job}: {how}" for job, how in ended.items() if how != "ok"]
            state = "; ".join(bad) or "ok"
        finally:
            took = round(time.monotonic() - started, 1)
            self.journal.add("step", name=name, state=state, limit_s=round(limit, 1), seconds=took)
            self.refresh()

    def _jobs(self, name: str) -> list[Job]:
        env = {key: value for key, value in os.environ.items() if not key.startswith("ILLAVA_")}
        env |= {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        if self.toy:
            env["OMP_NUM_THREADS"] = "1"  # toys are as fast on one, and leave the others alone
        if name == MACHINE:
            return [
                Job(
                    name,
                    lambda seconds: self._python("gpu_suite.facts", "--device", self.edition.device),
                    env,
                )
            ]
        if name in (TESTS, LATER):
            groups = self.edition.tests | (self.edition.later if name == LATER else {})
            # a machine's other plugins may not fit each other
            told_by = {told.JOURNAL: str(self.journal.path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
            return [
                Job(group, partial(_pytest, files), env | told_by | {told.GROUP: group})
                for group, files in groups.items()
                if name == TESTS or self._is_left(group)
            ]
        toy = ["--toy"] if self.toy else []
        return [
            Job(
                name,
                lambda seconds: self._python(
                    "gpu_suite.measure", "--model", name, "--seconds", f"{seconds:.1f}", *toy
                ),
                env,
            )
        ]

    def _python(self, module: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", module, "--journal", str(self.journal.path), *arguments]

    def _is_left(self, group: str) -> bool:
        """Whether a group has tests without an outcome, or was not begun."""
        found = gather(self.journal.read())
        ids = found.collected.get(group)
        return ids is None or not set(found.untold()).isdisjoint(ids)

    def has_cuda(self) -> bool:
        """Whether the machine's description names a GPU; where there is none yet, yes."""
        machine = gather(self.journal.read()).machine
        return machine is None or bool(machine["gpus"])

    def refresh(self) -> None:
        """Write the pages anew if something was learned, and tell of it."""
        if (size := self.journal.size()) == self.shown:
            return
        self.shown = size
        records = self.journal.read()
        try:
            pages.write(records, self.out)
        except Exception:  # the journal has it all: a page must not end the run
            with open(self.out / LOG, "a", encoding="utf-8") as log:
                traceback.print_exc(file=log)
        for record in records[self.spoken :]:
            if (text := _spoken(record)) is not None:
                with suppress(OSError):  # nobody may be listening any more
                    print(text, file=sys.stderr, flush=True)
        self.spoken = len(records)


def _spoken(record: dict) -> str | None:
    """A record as a line for a person who waits; None for those that say little."""
    kind = record["kind"]
    if kind == "step":
        return f"== {record['name']}: {record['state']}"
    if kind == "test" and record.get("outcome") in ("failed", "crashed"):
        return f"{record['outcome']}: {record['id']}"
    if kind == "result" and record["running"] is None:
        rounds = max(variant["rounds"] for variant in record["result"]["variants"].values())
        return f"{record['name']}: {record['what']}, {record['label']}: {rounds} rounds"
    if kind == "error":
        return f"error: {record['where']}: {record['message']}"
    return None


def _pytest(files: Sequence[str], seconds: float) -> list[str]:
    there = importlib.util.find_spec("pytest_timeout")
    limit = ["-p", "pytest_timeout", f"--timeout={TEST_S}"] if there else []
    options = ["-m", "gpu", "-q", "-p", "gpu_suite.told", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    return [sys.executable, "-m", "pytest", *options, *limit, *(str(ROOT / file) for file in files)]


def _stop(number: int, frame: object) -> NoReturn:
    raise Stopped(number)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/gpu_suite.sh", description=__doc__)
    out = os.environ.get("OUT") or ROOT / "runs" / "gpu"
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="wheels to put before what is installed")
    parser.add_argument(
        "--out", type=Path, default=Path(out), metavar="DIR", help="default: $OUT, or runs/gpu"
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="after which all has ended (default 8)")
    parser.add_argument(
        "--commit", metavar="NAME", help="what is checked out, where git is not there to tell"
    )
    parser.add_argument("--toy", action="store_true", help="toy models on the CPU: tries the suite itself")
    parser.add_argument("--only", action="append", metavar="STEP", help="machine, tests or a model; repeats")
    parser.add_argument(
        "--render",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="make the pages of saved results, and nothing else",
    )
    arguments = parser.parse_args(argv)
    names = [MACHINE, TESTS, *(model.name for model in suite(arguments.toy).models), LATER]
    if unknown := set(arguments.only or []) - set(names):
        parser.error(f"--only {', '.join(sorted(unknown))}: there are {', '.join(names)}")
    if arguments.wheels is not None and not arguments.wheels.is_dir():
        parser.error(f"--wheels {arguments.wheels}: no such folder")
    if not 0 < arguments.minutes < 1440:
        parser.error("--minutes: must be more than 0 and less than a day")
    if missing := [str(path) for path in arguments.render or [] if not path.is_file()]:
        parser.error(f"--render {', '.join(missing)}: no such file")
    arguments.steps = [name for name in names if not arguments.only or name in arguments.only]
    return arguments


def _command(arguments: argparse.Namespace) -> str:
    """The command line without folders."""
    words = ["scripts/gpu_suite.sh", *(["--toy"] if arguments.toy else [])]
    words += [
        f"--minutes {arguments.minutes:g}",
        *(f"--only {shlex.quote(name)}" for name in arguments.only or []),
    ]
    return " ".join(words)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite; 0 where all went well, 1 where something did not, 128 + N for a signal."""
    begun = time.monotonic()
    arguments = _arguments(argv)
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if arguments.render:
        lines = [line for path in arguments.render for line in path.read_text(encoding="utf-8").splitlines()]
        pages.write(read(lines), out)
        return 0
    for name in (JOURNAL, LOG):
        (out / name).unlink(missing_ok=True)
    edition = suite(arguments.toy)
    conductor = Conductor(edition, out, begun + 60 * arguments.minutes, arguments.toy)
    journal = conductor.journal
    models = [model for model in edition.models if model.name in arguments.steps]
    journal.add(
        "start",
        command=_command(arguments),
        date=datetime.now(UTC).date().isoformat(),
        toy=arguments.toy,
        steps=arguments.steps,
        models=[{"name": model.name, "media": model.media} for model in models],
        commit=arguments.commit,
    )
    state, code = "ended", None
    try:
        for number in SIGNALS:
            signal.signal(number, _stop)
        journal.add("wheels", **wheels.unpack(arguments.wheels))
        for name in arguments.steps:
            if name not in (MACHINE, TESTS, LATER) and not arguments.toy and not conductor.has_cuda():
                journal.add("step", name=name, state="not run", why="there is no CUDA device")
                continue
            conductor.step(name)
    except Stopped as stopped:
        state, code = f"stopped by signal {stopped.args[0]}", 128 + stopped.args[0]
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the last pages take milliseconds
    journal.add("end", state=state, seconds=round(time.monotonic() - begun, 1))
    conductor.refresh()
    with suppress(OSError):
        print(f"wrote {out / pages.SUMMARY}", file=sys.stderr)
    return code or (0 if gather(journal.read()).went_well() else 1)


if __name__ == "__main__":
    raise SystemExit(main())
