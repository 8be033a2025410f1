"""Servers one after another, each under the same loads, and the report of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from illava_cli.bench.serving import figures, lengths
from illava_cli.bench.serving.asking import Asker, about
from illava_cli.bench.serving.driving import Driver, Window
from illava_cli.bench.serving.loads import Extent, Load
from illava_cli.bench.serving.own import OwnServer
from illava_cli.bench.serving.questions import Questions
from illava_cli.client.server import Server
from illava_cli.errors import Cancelled
from illava_cli.interrupts import Interrupts

WARM_RATE = 8  # requests before those that come at a rate, where nobody says how many


@dataclass(frozen=True)
class Target:
    """A server that is measured.

    Args:
        name: in the report.
        arguments: of `illava serve`, for one that is started; None: `server` runs already.
        model: its name for it; None: the only one it has.
        fields: of every request.
    """

    name: str
    arguments: Sequence[str] | None = None
    server: Server | None = None
    model: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What each server is put under.

    Args:
        questions: makes the questions; each server is asked the same.
        equal_length: whether answers are to have `max_tokens` each.
        end_tokens: that end an answer, where they are known.
        timeout: seconds that an answer may take.
    """

    loads: Sequence[Load]
    questions: Callable[[], Questions]
    turns: int
    max_tokens: int
    equal_length: bool
    end_tokens: Sequence[int]
    requests: int | None
    seconds: float | None
    warmup: int | None
    timeout: float
    seed: int

    def extent(self, load: Load) -> Extent:
        warm = (
            (int(load.value) if load.kind == "clients" else WARM_RATE) if self.warmup is None else self.warmup
        )
        return Extent(self.requests, self.seconds, warm)


def measure(
    targets: Sequence[Target],
    plan: Plan,
    report: dict[str, Any],
    interrupts: Interrupts,
    progress: Callable[[str], None],
) -> None:
    """Fill in a report's `servers`, `results`, `comparison` and `notes`; a signal ends it with what there is.

    Raises:
        ServerError, UsageError, ModelError: a server that cannot be had; those before it are in the report.
    """
    report |= {"servers": [], "results": [], "comparison": [], "notes": []}
    for target in targets:
        progress(f"{target.name}: starting" if target.arguments is not None else target.name)
        try:
            with _running(target, interrupts) as (server, own):
                _measure(target, server, own, plan, report, interrupts, progress)
        except Cancelled:
            pass
        if interrupts.stop.is_set():
            break
    results = report["results"]
    report["comparison"] = figures.comparison(results)
    report["notes"] += [doubt for result in results for doubt in figures.doubts(result)]


@contextmanager
def _running(target: Target, interrupts: Interrupts) -> Iterator[tuple[Server, OwnServer | None]]:
    if target.arguments is None:
        yield target.server, None
        return
    with OwnServer(target.arguments, interrupts.stop, interrupts.leave) as own:
        yield Server.of(own.url), own


def _measure(
    target: Target,
    server: Server,
    own: OwnServer | None,
    plan: Plan,
    report: dict[str, Any],
    interrupts: Interrupts,
    progress: Callable[[str], None],
) -> None:
    said = about(server)
    model = target.model or server.only(list(said["models"]))
    where = {"own": own is not None, "url": None if own else server.url, "model": model}
    listed = {"name": target.name, **where, "version": said["version"], "about": said["models"].get(model)}
    report["servers"].append(listed)
    fields = {"model": model, "max_tokens": plan.max_tokens, "temperature": 0, **target.fields}
    if plan.equal_length:
        listed["equal_length"], ways = asyncio.run(_equal_length(server, fields, plan))
        fields |= ways
        if listed["equal_length"] is None:
            report["notes"].append(
                f"{target.name}: takes no ignore_eos, and its end tokens are not known (--end-token): "
                "answers ended where they did"
            )
    driver = Driver(plan.questions(), plan.turns, interrupts.stop, own.cpu_seconds if own else lambda: None)
    for number, load in enumerate(plan.loads):
        progress(f"{target.name}: {load.label}")
        window = asyncio.run(_load(driver, Asker(server, fields, plan.timeout), load, plan, number))
        if window.began is not None:
            report["results"].append(figures.summary(target.name, load, window, plan.turns))
        if interrupts.stop.is_set():
            return


async def _equal_length(server: Server, fields: dict[str, Any], plan: Plan) -> tuple[str | None, dict]:
    async with Asker(server, fields, plan.timeout) as asker:
        return await lengths.accepted(asker, plan.end_tokens)


async def _load(driver: Driver, asker: Asker, load: Load, plan: Plan, number: int) -> Window:
    async with asker:
        return await driver.measure(asker, load, plan.extent(load), [plan.seed, number])
