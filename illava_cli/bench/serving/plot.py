"""Throughput and the time to the first token over the load, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from illava_cli.drawing import looks, save, side_by_side

LABELS = {"clients": "clients at once", "rate": "requests that come a second"}


def plot_serving(results: list[dict[str, Any]], title: str, path: Path) -> None:
    """Draw results to `path`: two plots for each kind of load."""
    kinds = [kind for kind in LABELS if any(one["load"]["kind"] == kind for one in results)]
    figure, plots = side_by_side(2 * max(1, len(kinds)), title)
    for kind, throughput, first in zip(kinds, plots[::2], plots[1::2], strict=True):
        own = [one for one in results if one["load"]["kind"] == kind]
        for server, look in zip(dict.fromkeys(one["server"] for one in own), looks(), strict=False):
            points = sorted((one for one in own if one["server"] == server), key=_value)
            values = [_value(one) for one in points]
            throughput.plot(values, [one["requests_per_s"] for one in points], label=server, **look)
            known = [one for one in points if one["seconds"]["ttft"]]
            for point, style in (("p50", "-"), ("p95", "--")):
                seconds = [one["seconds"]["ttft"][point] for one in known]
                first.plot([_value(one) for one in known], seconds, style, label=f"{server}, {point}", **look)
        throughput.set(xlabel=LABELS[kind], ylabel="answers a second", ylim=(0, None))
        first.set(xlabel=LABELS[kind], ylabel="seconds to the first token", ylim=(0, None))
        for axes in (throughput, first):
            axes.legend(fontsize=7)
    save(figure, path)


def _value(result: dict[str, Any]) -> float:
    return result["load"]["value"]
