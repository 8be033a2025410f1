"""The page of a traced answer: one HTML file that needs no network and opens from disk."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Sequence
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
import yaml

SCRIPTS = (
    "page_data.js",
    "page_paint.js",
    "page_media.js",
    "page_panels.js",
    "page.js",
)  # one module, in order
MISSING = 0xFFFF  # the step that stands for "no value"


def render(payload: dict[str, Any]) -> str:
    """The page that shows `payload` (see `payload.py` for its fields); all numbers in it are finite.

    Text of the payload is data to the page, never markup. Lists with a value for each patch or token, which
    are most of a payload, travel as base64 of typed arrays.
    """
    page = files(__package__)
    return Template(page.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(payload["title"]),
        style=page.joinpath("page.css").read_text(encoding="utf-8"),
        payload=_json(_packed(payload)),
        script="\n".join(page.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS),
    )


def _json(value: Any) -> str:
    """JSON that no HTML parser finds an end tag or a comment in."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _packed(payload: dict[str, Any]) -> dict[str, Any]:
    """`payload` as the script reads it: long lists packed, the configuration as YAML text."""
    patches = payload["patches"]
    return payload | {
        "config": yaml.safe_dump(payload["config"], sort_keys=False, allow_unicode=True),
        "patches": {
            "medium": _integers(patches["medium"]),
            "view": _integers(patches["view"]),
            "box": _array(np.asarray(patches["box"], "<f4").reshape(-1)),
        },
        "stages": [
            stage
            | {
                "slot": _integers(stage["slot"]),
                "weight": _steps(stage["weight"]),
                "anchor": _integers(stage["anchor"]),
                "attention": None if stage["attention"] is None else _steps(stage["attention"]),
            }
            for stage in payload["stages"]
        ],
        "heat": [heat | {"values": _steps(heat["values"])} for heat in payload["heat"]],
    }


def _integers(values: Sequence[int]) -> dict[str, Any]:
    """In the narrowest of 1, 2 or 4 bytes that holds them all."""
    array = np.asarray(values, "<i4")
    ends = (int(array.min()), int(array.max())) if array.size else (0, 0)
    width = next(
        w for w in ("<i1", "<i2", "<i4") if all(np.iinfo(w).min <= e <= np.iinfo(w).max for e in ends)
    )
    return _array(array.astype(width))


def _steps(values: Iterable[float | None]) -> dict[str, Any]:
    """Values from 0 up as 16-bit multiples of one step: heat maps of all layers would not fit otherwise."""
    array = np.array([np.nan if value is None else value for value in values], np.float64)
    missing = np.isnan(array)
    largest = float(array[~missing].max(initial=0.0))
    step = largest / (MISSING - 1) or 1.0
    steps = np.where(missing, MISSING, np.rint(np.nan_to_num(array) / step)).astype("<u2")
    return _array(steps) | {"step": step}


def _array(array: np.ndarray) -> dict[str, Any]:
    return {"type": array.dtype.name, "data": base64.b64encode(array.tobytes()).decode("ascii")}
