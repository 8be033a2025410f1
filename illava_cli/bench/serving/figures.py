"""What the requests of a load amount to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from illava_cli.bench.serving.driving import Window
from illava_cli.bench.serving.loads import Load
from illava_cli.bench.serving.samples import Sample, count

PERCENTILES = (50, 95, 99)
BUSY = 0.5  # of a core, from which on this process may be what holds back
LATE_S = 0.02  # at p95, likewise
TIMES: dict[str, Callable[[Sample], float | None]] = {
    "ttft": lambda sample: sample.first_s,
    "per_token": lambda sample: sample.per_token_s,
    "whole": lambda sample: sample.whole_s,
}
TOKENS = {
    "prompt": ("prompt_tokens",),
    "cached": ("prompt_tokens_details", "cached_tokens"),
    "visual_unmerged": ("visual_tokens", "unmerged"),
    "visual_saved": ("visual_tokens", "saved"),
}


def distribution(values: Iterable[float | None]) -> dict[str, float] | None:
    """p50, p95, p99, mean and max; None where there are no values."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    points = np.percentile(known, PERCENTILES)
    named = {f"p{p}": float(point) for p, point in zip(PERCENTILES, points, strict=True)}
    return named | {"mean": float(np.mean(known)), "max": max(known)}


def summary(server: str, load: Load, window: Window, turns: int) -> dict[str, Any]:
    """A result of the report: times in seconds, throughput a second."""
    samples, seconds = window.samples, window.seconds
    answered = [sample for sample in samples if sample.error is None]
    tokens = {name: sum(count(s.usage, *place) for s in answered) for name, place in TOKENS.items()}
    lengths = [sample.tokens for sample in answered]
    result = {
        "server": server,
        "load": load.record(),
        "requests": len(samples),
        "failed": len(samples) - len(answered),
        "stopped": window.stopped,
        "window_s": seconds,
        "requests_per_s": _rate(len(answered), seconds),
        "tokens_per_s": _rate(sum(lengths), seconds),
        "visual_tokens_per_s": _rate(tokens["visual_unmerged"], seconds),
        "saved_tokens_per_s": _rate(tokens["visual_saved"], seconds),
        "seconds": {name: distribution(map(value, answered)) for name, value in TIMES.items()},
        "tokens": tokens | {"completion": sum(lengths), "completion_each": _range(lengths)},
        "media": {
            "sent": sum(sample.media for sample in answered if sample.turn == 0),
            "reused": sum(count(sample.usage, "visual_tokens", "reused") for sample in answered),
        },
        "errors": errors(samples),
        "client": {
            "cores": _rate(window.client_s, seconds),
            "lag_s": distribution(window.lags),
            "not_made_ahead": window.late,
        },
        "server_cores": None if window.server_s is None else _rate(window.server_s, seconds),
        "server_seconds": _server_seconds(answered),
    }
    if turns > 1:
        result["turns"] = [_turn(answered, turn) for turn in range(turns)]
    return result


def _rate(amount: float, seconds: float) -> float:
    return amount / seconds if seconds else 0.0


def _range(values: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {"min": min(values), "max": max(values), "mean": sum(values) / len(values)}


def _turn(answered: Sequence[Sample], turn: int) -> dict[str, Any]:
    """One of the turns of all conversations."""
    own = [sample for sample in answered if sample.turn == turn]
    cached = sum(count(sample.usage, *TOKENS["cached"]) for sample in own)
    times = {name: distribution(map(value, own)) for name, value in TIMES.items()}
    return {"requests": len(own), "cached": cached, "seconds": times}


def _server_seconds(answered: Sequence[Sample]) -> dict[str, float] | None:
    """The means of the times that the server itself says."""
    told = [sample.timings for sample in answered if sample.timings]
    if not told:
        return None
    names = [name for name in told[0] if name != "load_s"]
    return {name: float(np.mean([timings.get(name, 0.0) for timings in told])) for name in names}


def errors(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """Failures by kind, the most frequent first, with what was said of the first of each."""
    found: dict[str, dict[str, Any]] = {}
    for sample in samples:
        if sample.error is not None:
            kind = {"kind": sample.error, "count": 0, "message": sample.message}
            found.setdefault(sample.error, kind)["count"] += 1
    return sorted(found.values(), key=lambda one: -one["count"])


def comparison(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each server over the first (`off`, where that is one) at the same load: throughput and first tokens."""
    names = list(dict.fromkeys(result["server"] for result in results))
    first = "off" if "off" in names else names[0] if names else ""
    base = {_load(result): result for result in results if result["server"] == first}
    found = []
    for result in results:
        if result["server"] == first or (other := base.get(_load(result))) is None:
            continue
        times = {f"ttft_{p}": _ratio(_ttft(other, p), _ttft(result, p)) for p in ("p50", "p95")}
        throughput = _ratio(result["requests_per_s"], other["requests_per_s"])
        found.append(
            {
                "server": result["server"],
                "over": first,
                "load": result["load"],
                "requests_per_s": throughput,
                **times,
            }
        )
    return found


def gain(result: dict[str, Any], results: Sequence[dict[str, Any]]) -> float | None:
    """How many times the throughput of one client; None where that was not measured, or at a rate."""
    alone = [
        other["requests_per_s"]
        for other in results
        if other["server"] == result["server"] and _load(other) == ("clients", 1)
    ]
    if not alone or result["load"]["kind"] != "clients":
        return None
    return _ratio(result["requests_per_s"], alone[0])


def doubts(result: dict[str, Any]) -> list[str]:
    """Why a result may not be what it seems."""
    found, client = [], result["client"]
    where = f"{result['server']}, {result['load']['label']}"
    if client["cores"] > BUSY:
        found.append(
            f"{where}: this client took {client['cores']:.2f} cores, and may have been what held back"
        )
    if client["lag_s"] and client["lag_s"]["p95"] > LATE_S:
        late = 1e3 * client["lag_s"]["p95"]
        found.append(f"{where}: this client was {late:.0f} ms late at p95: the machine is busy")
    load = result["load"]
    if load["kind"] == "clients" and result["requests"] < load["value"]:
        found.append(f"{where}: {result['requests']} requests for so many clients say nothing of throughput")
    if client["not_made_ahead"]:
        found.append(f"{where}: {client['not_made_ahead']} questions were made while others were measured")
    return found


def _load(result: dict[str, Any]) -> tuple[str, float]:
    return result["load"]["kind"], result["load"]["value"]


def _ttft(result: dict[str, Any], point: str) -> float | None:
    times = result["seconds"]["ttft"]
    return times and times[point]


def _ratio(value: float | None, over: float | None) -> float | None:
    return value / over if value and over else None
