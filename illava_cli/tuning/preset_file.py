"""The preset that a search found, as a file that says where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from illava_cli import __version__
from illava_cli.config.settings import Config
from illava_cli.engine.session import Session
from illava_cli.errors import UsageError
from illava_cli.evals.report import COLUMNS
from illava_cli.models.family import Family
from illava_cli.tuning.questions import KINDS
from illava_cli.tuning.report import Done
from illava_cli.tuning.search import REFERENCE
from illava_cli.tuning.space import STAGES, Candidate, flow, layout_of, shipped


def preset(
    session: Session, resolve: Callable[[list[str]], Config], report: Mapping[str, Any], done: Sequence[Done]
) -> str:
    """What was chosen for each kind of medium; one that was not asked about has the stages of `auto`."""
    chosen = {search.kind: best.candidate for search, _, best in done}
    model, target = report["model"]["id"], report["target"]
    machine, text = report["machine"], session.describe()
    origin = [
        f"found by illava tune {__version__} on {date.today()}, model {model}, {target}",
        f"  {machine['command']}",
        f"  {text['dtype']}, {text['attn']} on {machine['cpu']}, {text['device']}",
    ]
    for search, _, best in done:
        about = report["kinds"][search.kind]
        shown = ", ".join(
            f"{words} {COLUMNS[column](best.checked)}"
            for words, column in (("same answers %", "same answer %"), ("change", "change"), ("KL", "KL"))
        )
        origin += [
            f"{search.kind}s: {best.speed:.2f}x fewer operations to the first token, "
            f"{'not timed' if best.measured is None else f'{best.measured:.2f}x measured'}; {shown}",
            f"  on {about['check_questions']} questions beside the {about['search_questions']} that chose it "
            f"(hash {about['questions_hash']})",
        ]
    for kind in KINDS:
        if kind not in chosen:
            own = _reference(session, resolve, kind)
            origin.append(
                f"{kind}s: {f'the stages of {REFERENCE}' if own else 'whole'}, none were asked about"
            )
            chosen |= {one.kind: one for one in own}
    kinds = " and ".join(f"{search.kind}s" for search, _, _ in done)
    return preset_text(session.family, chosen, f"Tuned on {kinds} for {target}.", origin)


def _reference(session: Session, resolve: Callable[[list[str]], Config], kind: str) -> list[Candidate]:
    """`auto` for one kind of medium, if the model can run it."""
    for candidate in shipped(session.family, kind):
        if candidate.name == f"as {REFERENCE}":
            try:
                session.under(resolve(candidate.settings(layout_of(session.family))))
            except UsageError:
                continue
            return [candidate]
    return []


def preset_text(
    family: Family, chosen: Mapping[str, Candidate], description: str, origin: Sequence[str]
) -> str:
    """A preset in YAML.

    Args:
        chosen: by kind of medium.
        origin: lines that stand above it as comments.
    """
    layout = dict(setting.split("=", 1) for setting in layout_of(family))
    stages = {stage: _merged(stage, chosen.values()) for stage in STAGES}
    lines = [f"# {line}" for line in origin]
    lines += [_entry("description", description), _entry("families", [family.schedule_key])]
    lines += [_entry(name, value) for name, value in layout.items()]
    lines += [_entry(stage, value) for stage, value in stages.items() if value]
    return "\n".join(lines) + "\n"


def _merged(stage: str, candidates: Iterable[Candidate]) -> dict[str, Any]:
    """A stage's values for all kinds of medium."""
    merged: dict[str, Any] = {}
    for candidate in candidates:
        merged |= candidate.stages.get(stage, {})
    return merged


def _entry(name: str, value: Any) -> str:
    return f"{name}: {flow(value).removesuffix('...').strip()}"
