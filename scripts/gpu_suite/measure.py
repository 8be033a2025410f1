"""One model, loaded once: each preset beside the unmodified model, then the same requests part by part.

A process that broke is started again and goes on from the journal: media that are done are left, and the
variant that ran when it broke is left out.
"""

from __future__ import annotations

import argparse
import time
import traceback
from pathlib import Path

from gpu_suite.journal import Journal, Record
from gpu_suite.plan import AGAIN, PRESETS, Model, Suite, suite
from illava_cli.bench.compare import compare
from illava_cli.bench.lab import Lab, Plan
from illava_cli.bench.machine import describe
from illava_cli.bench.media import Medium, synthetic_image, synthetic_picture, synthetic_video
from illava_cli.bench.profiling import profile
from illava_cli.bench.variants import Ours, Stock
from illava_cli.config.settings import Config
from illava_cli.config.sources import resolve
from illava_cli.engine.opening import load
from illava_cli.errors import UsageError
from illava_cli.models.family import Family

WEIGHTS = {"requests": 3.0, "parts": 1.0}  # how the time is shared between measurements
MARGIN_S = 3.0  # between a measurement's end and that of the process


class LabWithout(Lab):
    """A lab that leaves out what has broken a process before."""

    broken: frozenset[str] = frozenset()

    def variants(self, medium: Medium, batch: int) -> dict[str, Stock | Ours]:
        """By name, the unmodified model first."""
        return {n: v for n, v in super().variants(medium, batch).items() if n not in self.broken}


class Measurement:
    """What is to be measured of one model, and what the journal has of it."""

    def __init__(self, journal: Journal, edition: Suite, model: Model, seconds: float):
        self.journal, self.edition, self.model = journal, edition, model
        self.end = time.perf_counter() + seconds - MARGIN_S
        self.began = False  # to measure something

    def run(self) -> None:
        """Load, then measure all that is left to measure."""
        configs = {preset: self._config(preset) for preset in PRESETS}
        session = load(config=configs["off"])
        accepted, refused = {}, {}
        for preset, config in configs.items():
            try:
                session.under(config)
            except UsageError as error:
                refused[preset] = str(error)
            else:
                accepted[preset] = config
        lab = LabWithout(session, accepted)
        media = [medium_of(spec, lab.family) for spec in self.model.media]
        labels = [medium.description.label for medium in media]
        self._tell("model", model=lab.describe(), refused=refused, media=labels, machine=describe([]))
        left = [(what, medium) for what in WEIGHTS for medium in media]
        before = [r for r in self.journal.read() if r.get("name") == self.model.name]
        lab.broken = self._broken(before)
        done = {(r["what"], r["label"]) for r in before if r["kind"] == "result" and _is_over(r)}
        for index, (what, medium) in enumerate(left):
            if (what, medium.description.label) not in done:
                self._measure(lab, what, medium, sum(WEIGHTS[later] for later, _ in left[index:]))

    def _config(self, preset: str) -> Config:
        settings = [f"preset={preset}", f"model.device={self.edition.device}", "model.dtype=bfloat16"]
        return resolve(f"random:{self.model.name}", settings=settings, environ={})

    def _tell(self, kind: str, **fields) -> None:
        self.journal.add(kind, name=self.model.name, **fields)

    def _broken(self, before: list[Record]) -> frozenset[str]:
        """The variants that ran when a process broke; the newest is told."""
        broken = {record["variant"] for record in before if record["kind"] == "broken"}
        results = [record for record in before if record["kind"] == "result"]
        if results and (variant := results[-1]["running"]) and variant not in broken:
            self._tell("broken", label=results[-1]["label"], variant=variant)
            broken.add(variant)
        return frozenset(broken)

    def _measure(self, lab: LabWithout, what: str, medium: Medium, weights: float) -> None:
        now = time.perf_counter()
        deadline = now + max(0.0, self.end - now) * WEIGHTS[what] / weights
        plan = Plan(self.edition.new_tokens, self.edition.rounds, deadline)
        label = medium.description.label

        def learned(result: Record, running: str | None, over: bool = False) -> None:
            self.began = True
            self._tell("result", what=what, label=label, result=result, running=running, over=over)

        def progress(text: str) -> None:
            print(f"{self.model.name}: {what}: {text}", flush=True)

        if what == "requests":
            (result,) = compare(lab, [medium], [1], plan, progress, learned)
        else:
            (result,) = profile(lab, [medium], plan, progress, learned)
        learned(result, None, over=True)


def _is_over(record: Record) -> bool:
    """Measured; or broken amid rounds, where nobody knows by which variant: once is enough."""
    return record["over"] or record["running"] is None


def medium_of(spec: str, family: Family) -> Medium:
    """What `frames:32`, `tiles:10` or `pixels:1008x1008` stands for."""
    kind, _, size = spec.partition(":")
    if kind == "frames":
        return synthetic_video(int(size))
    if kind == "tiles":
        return synthetic_image(int(size), family)
    width, _, height = size.partition("x")
    return synthetic_picture(int(width), int(height))


def main() -> int:
    """Measure one model; exit code AGAIN where the process broke and another may go on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--toy", action="store_true")
    arguments = parser.parse_args()
    edition, journal = suite(arguments.toy), Journal(arguments.journal)
    measurement = Measurement(journal, edition, edition.model(arguments.model), arguments.seconds)
    try:
        measurement.run()
    except UsageError as error:
        journal.add("error", where=arguments.model, message=str(error))
        return 1
    except Exception as error:
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        journal.add("error", where=arguments.model, message=message, traceback=traceback.format_exc()[-3000:])
        return AGAIN if measurement.began else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
