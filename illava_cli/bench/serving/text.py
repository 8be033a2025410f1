"""A report of a server under load as tables, a row for each load."""

from __future__ import annotations

from typing import Any

from illava_cli.bench.markdown import machine_lines, table_lines
from illava_cli.bench.serving.figures import gain
from illava_cli.bench.text import Table
from illava_cli.figures import number, seconds

POINTS = ("p50", "p95", "p99", "mean")
SPOKEN = {"ttft": "first token", "per_token": "per token", "whole": "whole answer"}
ABOUT = (
    "Times are the client's, from when a request was due to its first text, between tokens, and to its end.",
    "`over 1` is the throughput over that of one client. Visual tokens are what the media would be without",
    "merging, a second, and what merging saved of them.",
)


def label(result: dict[str, Any]) -> str:
    """`auto, 16 clients`."""
    return f"{result['server']}, {result['load']['label']}"


def throughput(results: list[dict[str, Any]]) -> Table:
    """What was answered, a second."""
    rows = []
    for result in results:
        over_one = gain(result, results)
        rows.append(
            [
                label(result),
                str(result["requests"]),
                str(result["failed"]),
                number(result["requests_per_s"]),
                "-" if over_one is None else f"{over_one:.2f}x",
                number(result["tokens_per_s"]),
                number(result["visual_tokens_per_s"]),
                number(result["saved_tokens_per_s"]),
            ]
        )
    header = ["load", "requests", "failed", "requests/s", "over 1", "tokens/s", "visual tokens/s", "saved/s"]
    return header, rows


def times(results: list[dict[str, Any]], name: str) -> Table:
    """One of the times."""
    rows = []
    for result in results:
        found = result["seconds"][name] or {}
        rows.append([label(result), *(seconds(found.get(point)) for point in POINTS)])
    return [SPOKEN[name], *POINTS], rows


def turns(results: list[dict[str, Any]]) -> Table:
    """The first tokens of each turn of conversations."""
    rows = [
        [
            f"{label(result)}, turn {turn + 1}",
            str(own["requests"]),
            str(own["cached"]),
            *(seconds((own["seconds"]["ttft"] or {}).get(point)) for point in POINTS),
        ]
        for result in results
        for turn, own in enumerate(result.get("turns", ()))
    ]
    return ["first token", "requests", "cached tokens", *POINTS], rows


def counts(results: list[dict[str, Any]]) -> Table:
    """Tokens and media of all requests of a load, and what processors the measuring took."""
    rows = []
    for result in results:
        tokens, media, each = result["tokens"], result["media"], result["tokens"]["completion_each"]
        length = "-" if each is None else f"{each['min']} to {each['max']}"
        rows.append(
            [
                label(result),
                str(tokens["prompt"]),
                str(tokens["cached"]),
                length,
                f"{media['reused']} of {media['sent']}",
                f"{result['client']['cores']:.2f}",
                "-" if result["server_cores"] is None else f"{result['server_cores']:.2f}",
            ]
        )
    header = ["tokens and media", "prompt", "cached", "each answer", "media reused", "client's cores"]
    return [*header, "server's cores"], rows


def compared(found: list[dict[str, Any]]) -> Table:
    """Servers beside one another at equal load."""
    rows = [
        [
            f"{one['server']} over {one['over']}, {one['load']['label']}",
            *("-" if value is None else f"{value:.2f}x" for value in _ratios(one)),
        ]
        for one in found
    ]
    return ["compared", "requests/s", "first token, p50", "p95"], rows


def _ratios(one: dict[str, Any]) -> list[float | None]:
    return [one["requests_per_s"], one["ttft_p50"], one["ttft_p95"]]


def failures(results: list[dict[str, Any]]) -> Table:
    """Failures by kind."""
    rows = [
        [label(result), one["kind"], str(one["count"]), one["message"] or "-"]
        for result in results
        for one in result["errors"]
    ]
    return ["failures", "kind", "requests", "the first says"], rows


def tables(report: dict[str, Any]) -> list[Table]:
    """All tables of a report."""
    results = report["results"]
    if not results:
        return []
    found = [throughput(results), *(times(results, name) for name in SPOKEN)]
    if any("turns" in result for result in results):
        found.append(turns(results))
    found.append(counts(results))
    if report["comparison"]:
        found.append(compared(report["comparison"]))
    if any(result["errors"] for result in results):
        found.append(failures(results))
    return found


def headline(report: dict[str, Any]) -> str:
    """What was asked, of which server, and from where, in one line."""
    settings, machine = report["settings"], report["machine"]
    server = report["servers"][0] if report["servers"] else {}
    version = server.get("version") or {}
    known = [f"{name} {version[name]}" for name in ("torch", "transformers") if name in version]
    where = f"{machine['cpu']}, {machine['cores']} cores"
    if not server.get("own"):
        where = f"client on {where}"
    asked = f"{asked_about(settings['media'])}, {settings['max_tokens']} tokens at most"
    if settings["turns"] > 1:
        asked += f", {settings['turns']} turns"
    return " | ".join([server.get("model") or "-", asked, where, *([", ".join(known)] if known else [])])


def asked_about(media: dict[str, Any]) -> str:
    """`a picture of 384 x 384 pixels`."""
    if not media["synthetic"]:
        return f"{media['questions']} {'question' if media['questions'] == 1 else 'questions'} of media"
    size = f"{media['width']} x {media['height']} pixels"
    what = f"clips of {media['frames']} frames, {size}" if media["kind"] == "video" else f"pictures, {size}"
    return what + (f", {100 * media['repeat']:.0f} % asked again" if media["repeat"] else "")


def page(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    machine = report["machine"]
    lines = ["# A server under load", "", *machine_lines(machine), ""]
    lines += [headline(report) + f" | commit {machine['commit'] or 'unknown'}", ""]
    lines += [f"    {machine['command']}", "", *ABOUT, ""]
    for table in tables(report):
        lines += [*table_lines(table), ""]
    lines += [f"- {note}" for note in report["notes"]]
    return "\n".join(lines).rstrip() + "\n"
