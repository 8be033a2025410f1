"""The search for one kind of medium: many schedules on few questions, few on many, and a check on others."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Any

from illava_cli.config.settings import Config
from illava_cli.engine.session import Session
from illava_cli.errors import UsageError
from illava_cli.evals.lanes import Answer, Lane
from illava_cli.evals.report import summary
from illava_cli.evals.results import Results
from illava_cli.evals.runner import Runner
from illava_cli.evals.sample import EvalSample
from illava_cli.evals.variants import OFF, Variant, unmerged
from illava_cli.tuning import cost
from illava_cli.tuning.halving import LAST, rounds, survivors
from illava_cli.tuning.space import Candidate, Genes, draw, express, layout_of, neighbour, shipped
from illava_cli.tuning.target import Figures, Target

COUNTED = 4  # questions of each kind whose operations are counted
LEAST = 16  # questions of a first round
TIMED, TIMED_ROUNDS = 4, 3
OTHERS = 3  # of the first round's schedules, one in so many gets a neighbour in the second
REFERENCE = "auto"
COUNTED_AT_MOST = 3  # schedules for each that is wanted, where most are too slow for the target
DRAWS = 50  # attempts for each schedule that is wanted, before a space counts as walked


@dataclass
class Tried:
    """A schedule: what it is, and what is known of it."""

    candidate: Candidate
    lane: Lane
    speed: float
    genes: Genes | None = None
    figures: dict[str, Any] = field(default_factory=dict)  # of `report.summary`, on the search's questions
    checked: dict[str, Any] = field(default_factory=dict)  # on questions that the search never asked
    measured: float | None = None  # speed-up to the first token by the clock

    def known(self) -> Figures:
        return figures_of(self.speed, self.figures)


def figures_of(speed: float, found: dict[str, Any]) -> Figures:
    """What a target looks at; a schedule that answered nothing agrees with nothing."""
    agreement, change = found.get("agreement"), found.get("difference")
    return Figures(
        speed,
        (agreement["value"], agreement["high"]) if agreement else (0.0, 0.0),
        found["kl"] if found.get("kl") is not None else float("inf"),
        (change["value"], change["high"]) if change else None,
    )


@dataclass(frozen=True)
class Reference(Lane):
    """The unmodified model, which is asked each question once."""

    known: dict[str, Answer] = field(default_factory=dict)

    def ask(self, samples: Sequence[EvalSample], cancel: Event, trace: bool = False) -> list[Answer]:
        new = [sample for sample in samples if sample.id not in self.known]
        self.known.update(zip((s.id for s in new), super().ask(new, cancel, trace), strict=True))
        return [self.known[sample.id] for sample in samples]


class Search:
    """Over schedules for one kind of medium of a loaded model.

    Args:
        resolve: the configuration of a run with these settings on top of all others.
        progress: told what is asked, how many answers have come and how many will.
    """

    def __init__(
        self,
        session: Session,
        kind: str,
        resolve: Callable[[list[str]], Config],
        target: Target,
        results: Results,
        *,
        batch_size: int,
        seed: int,
        cancel: Event,
        progress: Callable[[str, int, int], None],
    ):
        self.session, self.kind, self.resolve, self.target = session, kind, resolve, target
        self.results, self.batch_size, self.cancel, self.progress = results, batch_size, cancel, progress
        self.rng = random.Random(f"{seed}/{kind}")
        plain = unmerged(resolve([]))
        self.off = Reference(Variant(OFF, plain), session.under(plain))
        self.tried: dict[str, Tried] = {}
        self.log: list[dict[str, Any]] = []
        self.whole: int = 0

    # --- the schedules ----------------------------------------------------------------------

    def gather(self, count: int, samples: Sequence[EvalSample]) -> None:
        """Take the shipped presets and drawn schedules, `count` in all, and count their operations.

        Raises:
            UsageError: the model can run none that may keep the target.
        """
        self.sized = _apart(samples)[:COUNTED]
        self.whole = cost.operations(self.off.session, self.sized, self.cancel)
        for candidate in shipped(self.session.family, self.kind):
            self._take(candidate, None)
        for _ in range(DRAWS * count):
            if len(self.able()) >= count or len(self.tried) >= COUNTED_AT_MOST * count:
                break
            genes = draw(self.rng, self.kind)
            self._take(express(genes, self.kind, self.session.family), genes)
        if not self.able():
            raise UsageError(
                f"--target {self.target}: of the {len(self.tried)} schedules tried none is so fast"
            )

    def able(self) -> list[str]:
        """Those that may keep the target, as far as their operations say."""
        free = Figures(0.0, (1.0, 1.0), 0.0, (0.0, 0.0))
        return [
            name
            for name, one in self.tried.items()
            if self.target.may_be_kept(Figures(one.speed, free.agreement, free.kl, free.accuracy))
        ]

    def _take(self, candidate: Candidate, genes: Genes | None) -> None:
        name = f"{self.kind}: {candidate.name}"
        if name in self.tried or self.cancel.is_set():
            return
        try:
            config = self.resolve(candidate.settings(layout_of(self.session.family)))
            lane = Lane(Variant(name, config), self.session.under(config))
        except UsageError:
            return  # this model cannot run it
        if any(
            one.lane.session.schedules[self.kind] == lane.session.schedules[self.kind]
            for one in self.tried.values()
        ):
            return  # the same by another name
        self.progress(f"{self.kind}s: counting operations, schedule {len(self.tried) + 1}", 0, 1)
        spent = cost.operations(lane.session, self.sized, self.cancel)
        if spent < self.whole or candidate.name == REFERENCE:
            self.tried[name] = Tried(candidate, lane, self.whole / spent, genes)

    # --- the rounds ---------------------------------------------------------------------------

    def run(self, samples: Sequence[EvalSample]) -> list[Tried]:
        """The schedules that are left after all rounds, the best first."""
        going = self.able()
        asked = rounds(len(samples), len(going), LEAST)
        for number, count in enumerate(asked):
            if number == 1:
                going += self._neighbours(going, len(self.tried) // OTHERS)
            told = (
                f"{self.kind}s, round {number + 1} of {len(asked)}: {len(going)} schedules, {count} questions"
            )
            found = self._ask(going, samples[:count], told)
            for name in going:
                self.tried[name].figures = found[name]
            self.log.append({"questions": count, "figures": {name: found[name] for name in going}})
            going = survivors({name: self.tried[name].known() for name in going}, self.target)
        return [self.tried[name] for name in going]

    def _neighbours(self, going: list[str], count: int) -> list[str]:
        """New schedules that differ in one thing from those that are left."""
        parents = [genes for name in going if (genes := self.tried[name].genes) is not None]
        before = set(self.tried)
        for _ in range(DRAWS * count if parents else 0):
            if len(self.tried) - len(before) >= count:
                break
            genes = neighbour(self.rng, self.rng.choice(parents), self.kind)
            self._take(express(genes, self.kind, self.session.family), genes)
        able = set(self.able())
        return [name for name in self.tried if name not in before and name in able]

    def _ask(
        self, names: Sequence[str], samples: Sequence[EvalSample], told: str
    ) -> dict[str, dict[str, Any]]:
        """Figures of these schedules over all of the samples, by name."""
        lanes = [self.off, *(self.tried[name].lane for name in names)]
        self.results.declare([lane.variant for lane in lanes])
        runner = Runner(lanes, self.results, self.batch_size, cancel=self.cancel, peaks=False)
        done = []
        self.progress(told, 0, len(samples))
        for batch in runner.run([partial(_same, sample) for sample in samples]):
            done += batch
            self.progress(told, len(done), len(samples))
        return summary(lanes, done, self.results)["all"]["variants"]

    # --- the end ------------------------------------------------------------------------------

    def check(self, found: list[Tried], samples: Sequence[EvalSample]) -> list[Tried]:
        """Finalists, and `auto` beside them, on questions that chose nothing, and by the clock."""
        shown = found[:LAST]
        auto = self.tried.get(f"{self.kind}: {REFERENCE}")
        if auto is not None and auto not in shown:
            shown.append(auto)
        names = [one.lane.variant.name for one in shown]
        told = f"{self.kind}s, check: {len(names)} schedules, {len(samples)} questions"
        figures = self._ask(names, samples, told)
        self.progress(f"{self.kind}s: timing {len(names)} schedules", 0, 1)
        sessions = [one.lane.session for one in shown]
        timed = cost.speedups(self.off.session, sessions, _apart(samples)[:TIMED], TIMED_ROUNDS, self.cancel)
        for one, name, measured in zip(shown, names, timed, strict=True):
            one.checked, one.measured = figures[name], measured
        return shown


def _apart(samples: Sequence[EvalSample]) -> list[EvalSample]:
    """One of each task first, then the others: media of all sizes are among the first."""
    firsts = list({sample.task: sample for sample in reversed(samples)}.values())[::-1]
    return firsts + [sample for sample in samples if not any(sample is first for first in firsts)]


def _same(sample: EvalSample) -> EvalSample:
    return sample
