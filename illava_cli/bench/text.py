"""A report as tables for people: one column for each variant, one row for each number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from illava_cli.figures import megabytes, number, seconds, stages

STAGE_NAMES = {
    "media": "decode, preprocess",
    "vision": "vision",
    "prefill": "prefill",
    "ttft": "first token",
    "per_token": "per token",
    "request": "request",
}
PART_NAMES = {
    "decode": "decode",
    "preprocess": "preprocess",
    "tower": "tower",
    "tower_scoring": "scoring in the tower",
    "tower_merging": "merging in the tower",
    "packing": "projector, packing",
    "prefill": "decoder prefill",
    "llm_scoring": "scoring in the decoder",
    "llm_merging": "merging in the decoder",
    "decoding": "decoding",
    "other": "other",
}
Table = tuple[list[str], list[list[str]]]  # header, rows


def spread(value: dict[str, float] | None, show: Callable[[float], str]) -> str:
    """`median (min to max)`."""
    if value is None:
        return "-"
    if value["min"] == value["max"]:
        return show(value["median"])
    return f"{show(value['median'])} ({show(value['min'])} to {show(value['max'])})"


def visual_tokens(visual: dict[str, int]) -> str:
    """The visual tokens at each stage."""
    return stages(visual[name] for name in ("patches", "vision_kept", "llm_in", "llm_kept"))


def merged(visual: dict[str, int]) -> bool:
    """Whether visual tokens were merged in the tower or in the LLM, or never entered."""
    merged = visual["vision_kept"] < visual["patches"] or visual["llm_kept"] < visual["llm_in"]
    return merged or visual.get("left_out", 0) > 0


def reached(against: dict[str, Any], stage: str, without: str) -> str:
    """`1.62x of 1.83x: 88 %`: measured speed-up, bound, efficiency."""
    if "speedup" not in against:
        return without
    measured, bound = against["speedup"][stage]["median"], against["bound"][stage]
    return f"{measured:.2f}x of {bound:.2f}x: {100 * against['efficiency'][stage]:.0f} %"


def comparison(result: dict[str, Any]) -> Table:
    """The table of one medium and batch size."""
    variants = result["variants"]
    rows = [["visual tokens", *(visual_tokens(v["tokens"]["visual"]) for v in variants.values())]]
    rows.append(["prompt tokens", *(str(v["tokens"]["prompt"]) for v in variants.values())])
    for stage, name in STAGE_NAMES.items():
        rows.append([name, *(spread(v["seconds"][stage], seconds) for v in variants.values())])
    for key, name in (("requests_per_s", "requests/s"), ("tokens_per_s", "tokens/s")):
        rows.append([name, *(spread(v[key], number) for v in variants.values())])
    peaks = [megabytes(v["peak_bytes_beyond_weights"]) for v in variants.values()]
    rows.append(["peak beyond weights", *peaks])
    reference = "1" if any("speedup" in v for v in variants.values()) else "-"
    for stage in ("vision", "prefill", "ttft", "request"):
        cells = (reached(v, stage, reference) for v in variants.values())
        rows.append([f"speed-up, {STAGE_NAMES[stage]}", *cells])
    if any("over_off" in v for v in variants.values()):
        for stage in ("vision", "prefill", "ttft", "request"):
            cells = (reached(v.get("over_off", {}), stage, "-") for v in variants.values())
            rows.append([f"over off, {STAGE_NAMES[stage]}", *cells])
    return [title(result), *variants], rows


def title(result: dict[str, Any]) -> str:
    """`5 tiles, batch 8`."""
    batch = result.get("batch_size", 1)
    return result["medium"]["label"] + (f", batch {batch}" if batch > 1 else "")


def gains(batching: list[dict[str, Any]]) -> Table:
    """A batch against as many single requests."""
    rows = [
        [
            f"{g['medium']}, batch {g['batch_size']}",
            g["variant"],
            seconds(g["single_requests_s"]),
            seconds(g["batch_s"]),
            f"{g['speedup']:.2f}x",
        ]
        for g in batching
    ]
    return ["batch", "variant", "one by one", "as a batch", "gain"], rows


def parts(result: dict[str, Any]) -> Table:
    """The table of one profiled medium."""
    variants = result["variants"]
    rows = [
        [name, *(f"{seconds(v['seconds'][part])}  {100 * v['share'][part]:.1f} %" for v in variants.values())]
        for part, name in PART_NAMES.items()
    ]
    rows.append(["whole", *(seconds(v["whole_s"]) for v in variants.values())])
    for stage, name in (("tower", "tower"), ("prefill", "prefill")):
        shares = (f"{100 * v['reduction_share'][stage]:.1f} %" for v in variants.values())
        rows.append([f"scoring + merging, of the {name}", *shares])
    return [title(result), *variants], rows


def growth(results: list[dict[str, Any]]) -> Table:
    """Time and peak memory of the tower, one row for each medium."""
    names = list(results[0]["variants"])
    rows = []
    for result in results:
        variants = result["variants"].values()
        times = [spread(v["seconds"], seconds) for v in variants]
        rows.append([title(result), *times, *(megabytes(v["peak_bytes"]) for v in variants)])
    return ["tower", *names, *(f"{name}, peak" for name in names)], rows


def rivals(result: dict[str, Any]) -> Table:
    """The table of one layer."""
    rows = []
    for name, method in result["methods"].items():
        beyond, share = method["seconds_beyond_layer"], method["share_of_plain_layer"]
        rows.append(
            [
                name,
                str(method["tokens_out"]),
                spread(method["seconds"], seconds),
                spread(beyond, seconds),
                "-" if share is None else f"{100 * share:+.1f} %",
                megabytes(method["peak_bytes"]),
            ]
        )
    for name, extra in result.get("scoring_bytes", {}).items():
        rows.append([f"scores alone, {name}", "-", "-", "-", "-", megabytes(extra)])
    where = f"{result['layer']} layer, {result['tokens_in']} tokens"
    return [where, "tokens out", "time", "beyond the layer", "of the plain layer", "peak"], rows


def tables(report: dict[str, Any]) -> list[Table]:
    """All tables of a report."""
    found = [comparison(result) for result in report.get("results", [])]
    if report.get("batching"):
        found.append(gains(report["batching"]))
    found += [parts(result) for result in report.get("profile", [])]
    if report.get("tower"):
        found.append(growth(report["tower"]))
    return found + [rivals(result) for result in report.get("rivals", [])]


def headline(report: dict[str, Any]) -> str:
    """The model and the machine in one line."""
    model, machine = report["model"], report["machine"]
    if "server" in model:
        return f"{model['id']} at {model['server']}"
    gpu = model["device"] != "cpu" and machine["gpus"]
    where = machine["gpus"][0]["name"] if gpu else f"{machine['cpu']}, {machine['threads']} threads"
    versions = f"torch {machine['torch']}, transformers {machine['transformers']}"
    return f"{model['id']}, {model['dtype']}, {model['attn']} | {where} | {versions}"
