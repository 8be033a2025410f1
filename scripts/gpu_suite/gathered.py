"""A journal folded into what stands on the pages: of each thing the newest that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gpu_suite.journal import Record


@dataclass
class ModelFound:
    """What is known of one model; results by (what, label)."""

    about: Record | None = None
    results: dict[tuple[str, str], Record] = field(default_factory=dict)
    broken: list[Record] = field(default_factory=list)

    def report(self, what: str, label: str, start: Record) -> dict[str, Any] | None:
        """A report as `illava bench` writes it, or None where nothing was measured.

        Args:
            start: has the command, and the commit where the machine did not know it.
        """
        record = self.results.get((what, label))
        if self.about is None or record is None or not record["result"]["variants"]:
            return None
        section = "results" if what == "requests" else "profile"
        machine = self.about["machine"] | {"command": start.get("command", "unknown")}
        machine["commit"] = machine["commit"] or start.get("commit")
        return {"model": self.about["model"], "machine": machine, section: [record["result"]]}

    def is_partial(self, what: str, label: str) -> bool:
        """Whether its measurement did not come to its end."""
        return not self.results[what, label]["over"]


@dataclass
class Found:
    """All that a journal says; tests by id, groups and steps by name."""

    start: Record = field(default_factory=dict)
    end: Record | None = None
    wheels: Record | None = None
    machine: dict[str, Any] | None = None
    kernels: dict[str, Any] | None = None
    ceilings: Record | None = None
    steps: dict[str, Record] = field(default_factory=dict)
    tests: dict[str, Record] = field(default_factory=dict)
    collected: dict[str, list[str]] = field(default_factory=dict)
    models: dict[str, ModelFound] = field(default_factory=dict)
    errors: list[Record] = field(default_factory=list)

    def outcomes(self, outcome: str) -> list[Record]:
        """The tests that ended so."""
        return [test for test in self.tests.values() if test.get("outcome") == outcome]

    def untold(self) -> list[str]:
        """Tests that were collected and have no outcome."""
        known = {id for id, test in self.tests.items() if test.get("outcome")}
        return [id for ids in self.collected.values() for id in ids if id not in known]

    def went_well(self) -> bool:
        """Whether all steps ended by themselves and no test failed."""
        if self.errors or self.outcomes("failed") or self.outcomes("crashed"):
            return False
        return all(step["state"] == "ok" for step in self.steps.values())


def gather(records: Sequence[Record]) -> Found:
    """Fold records, also of several runs one after another: the newer one counts."""
    found = Found()
    for record in records:
        kind, name = record["kind"], record.get("name", "")
        if kind == "start":
            found.start, found.end = record, None
            for model in record["models"]:
                found.models.setdefault(model["name"], ModelFound())
            for step in record["steps"]:
                found.steps.setdefault(step, {"state": "not run"})
        elif kind in ("end", "wheels", "ceilings"):
            setattr(found, kind, record)
        elif kind in ("machine", "kernels"):
            setattr(found, kind, record[kind])
        elif kind == "step":
            found.steps[name] = record
        elif kind == "test":
            found.tests[record["id"]] = record
        elif kind == "collected":
            found.collected[record["group"]] = record["ids"]
        elif kind == "error":
            found.errors.append(record)
        elif kind in ("model", "result", "broken"):
            _of_model(found.models.setdefault(name, ModelFound()), record)
    return found


def _of_model(model: ModelFound, record: Record) -> None:
    if record["kind"] == "model":
        model.about = record
    elif record["kind"] == "broken":
        model.broken.append(record)
    else:
        key = record["what"], record["label"]
        # one that starts anew, after a crash, must not hide what was measured before
        if record["result"]["variants"] or key not in model.results:
            model.results[key] = record
