"""A journal as Markdown: a page of all, and one of each model in the form of `illava bench`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpu_suite.gathered import Found, ModelFound, gather
from gpu_suite.journal import Record

SUMMARY = "gpu-summary.md"
HEADINGS = {"requests": "{}", "parts": "{}, part by part"}


def write(records: Sequence[Record], folder: Path) -> None:
    """Write all pages: each beside and then in its place, so that there is always a whole one."""
    for name, text in pages(records).items():
        beside = folder / f"{name}.new"
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, folder / name)


def pages(records: Sequence[Record]) -> dict[str, str]:
    """The text of each page, by the name of its file."""
    found = gather(records)
    made = {
        f"gpu-{name}.md": _model_page(found, name, model)
        for name, model in found.models.items()
        if model.about
    }
    return {SUMMARY: "\n".join(_summary(found)).rstrip() + "\n", **made}


def _summary(found: Found) -> Iterator[str]:
    start = found.start
    yield "# What a GPU said" if not start.get("toy") else "# What a CPU said to the toy edition"
    yield from ("", f"    {start.get('command', 'unknown')}", "", _state(found), "")
    yield from _machine(found)
    yield from ("## Steps", "", *_rows(["step", "state", "time", "limit"], _steps(found)), "")
    for error in found.errors:
        yield f"- {error['where']}: {_line(error['message'])}"
    yield from ("", "## Tests", "", *_tests(found), "")
    yield from ("## Models", "", *_models(found))


def _state(found: Found) -> str:
    day = found.start.get("date", "an unknown day")
    if found.end is None:
        return f"Begun on {day}, and not at its end: what follows is what was known by then."
    return f"Begun on {day}, {found.end['state']} after {found.end['seconds']:.0f} s."


def _machine(found: Found) -> Iterator[str]:
    if found.machine is None:
        yield "- The machine was not described."
    else:
        from illava_cli.bench.markdown import machine_lines

        yield from machine_lines(found.machine)
        yield f"- commit {found.machine['commit'] or found.start.get('commit') or 'unknown'}"
    if found.wheels is not None:
        for key, said in (("unpacked", "Unpacked"), ("broken", "No wheels"), ("lacking", "Lacking")):
            if found.wheels[key]:
                yield f"- {said}: {', '.join(found.wheels[key])}"
    if (ceilings := found.ceilings) is not None:
        product, copy = ceilings["bfloat16_flop_per_s"] / 1e12, ceilings["copy_bytes_per_s"] / 1e9
        yield f"- Ceilings: a bfloat16 product {product:.3g} TFLOP/s, a copy {copy:.4g} GB/s read and written"
    for name, kernel in (found.kernels or {}).items():
        if isinstance(kernel, dict):
            kernel = ", ".join(f"{what} {_yes(there)}" for what, there in kernel.items())
            yield f"- {name}: {kernel}"
        else:
            yield f"- {name}: {_yes(kernel)}"
    yield ""


def _yes(there: bool) -> str:
    return "yes" if there else "no"


def _steps(found: Found) -> Iterator[list[str]]:
    for name, step in found.steps.items():
        state = step["state"] + (f" ({step['why']})" if step.get("why") else "")
        took, limit = step.get("seconds"), step.get("limit_s")
        yield [name, state, *("-" if x is None else f"{x:.0f} s" for x in (took, limit))]


def _tests(found: Found) -> Iterator[str]:
    counts = [f"{len(found.outcomes(name))} {name}" for name in ("passed", "failed", "crashed", "skipped")]
    untold = found.untold()
    yield f"{', '.join(counts)}, {len(untold)} without an outcome."
    for outcome in ("failed", "crashed"):
        for test in found.outcomes(outcome):
            yield from ("", f"{outcome}: `{test['id']}`", "", *_indented(test.get("message", "")))
    reasons = Counter(_line(test["message"]).removeprefix("Skipped: ") for test in found.outcomes("skipped"))
    if reasons:
        yield from ("", *(f"- skipped {count}: {reason}" for reason, count in reasons.most_common()))
    if untold:
        yield from ("", *(f"- no outcome: `{id}`" for id in untold))
    for name, step in found.steps.items():
        if step["state"] == "not run" and "tests" in name:
            yield from ("", f"Not run: {name}.")


def _models(found: Found) -> Iterator[str]:
    planned = {model["name"]: model["media"] for model in found.start.get("models", [])}
    rows = []
    for name, model in found.models.items():
        if model.about is None:
            yield f"- {name}: not measured ({', '.join(planned.get(name, []))})"
            continue
        yield f"- [{name}](gpu-{name}.md): loaded in {model.about['model']['load_s']:.1f} s"
        yield from (f"  - {line}" for line in _remarks(model))
        rows += _figures(name, model)
    if rows:
        header = [
            "model",
            "medium",
            "preset",
            "visual tokens",
            "first token",
            "vision",
            "prefill",
            "per token",
        ]
        yield from ("", *_rows([*header, "peak", "first token, of its bound"], rows))


def _figures(name: str, model: ModelFound) -> Iterator[list[str]]:
    from illava_cli.bench.text import reached, visual_tokens
    from illava_cli.figures import megabytes, seconds

    for (what, label), record in model.results.items():
        if what != "requests":
            continue
        for preset, variant in record["result"]["variants"].items():
            times = [variant["seconds"][stage] for stage in ("ttft", "vision", "prefill", "per_token")]
            yield [
                *(name, label, preset, visual_tokens(variant["tokens"]["visual"])),
                *("-" if time is None else seconds(time["median"]) for time in times),
                megabytes(variant["peak_bytes_beyond_weights"]),
                reached(variant, "ttft", "-"),
            ]


def _remarks(model: ModelFound) -> Iterator[str]:
    """What was not measured of a model, and why."""
    for preset, why in model.about["refused"].items():
        yield f"`{preset}` is refused: {_line(why)}"
    for record in model.broken:
        yield f"`{record['variant']}` broke the process ({record['label']}) and was left out from there"
    for (what, label), record in model.results.items():
        where = HEADINGS[what].format(label)
        if model.is_partial(what, label):
            yield f"{where}: did not come to its end"
        if left_out := record["result"].get("left_out"):
            yield f"{where}: no time for {', '.join(f'`{name}`' for name in left_out)}"


def _model_page(found: Found, name: str, model: ModelFound) -> str:
    from illava_cli.bench.markdown import page

    reports = {
        HEADINGS[what].format(label): model.report(what, label, found.start)
        for what in HEADINGS
        for label in model.about["media"]
    }
    text = page(reports, title=f"{name} on a GPU" if not found.start.get("toy") else name)
    remarks = [f"- {line}" for line in _remarks(model)]
    return text + ("\n" + "\n".join(["## Left out", "", *remarks]) + "\n" if remarks else "")


def _rows(header: list[str], rows: Iterator[list[str]] | list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]


def _line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]
