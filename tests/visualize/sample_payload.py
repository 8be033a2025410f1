"""Payloads as a traced run makes them, without a model: what merges is drawn by lot."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

Extent = tuple[float, float, float, float]


class Traced:
    """The stages of one run; `merge` and `pool` add one each. Slots, weights and anchors are per patch."""

    def __init__(self, patches: int, padding: np.ndarray | None = None, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.slot = np.arange(patches)
        self.weight = np.ones(patches)
        self.anchor = np.arange(patches)
        self.padding = np.zeros(patches, bool) if padding is None else padding
        self.stages: list[dict[str, Any]] = []
        self.add("tower in", "tower", None, None)

    def add(self, name: str, where: str, layer: int | None, received: np.ndarray | None) -> None:
        self.stages.append(
            {
                "name": name,
                "where": where,
                "layer": layer,
                "tokens": len(self.anchor),
                "seconds": None if layer is None else 0.0173,
                "slot": self.slot.tolist(),
                "weight": np.round(self.weight, 4).tolist(),
                "anchor": self.anchor.tolist(),
                "attention": None if received is None else received.tolist(),
            }
        )

    def merge(self, name: str, where: str, layer: int, removed: int, of: np.ndarray) -> None:
        """In each part of the tokens (`of` numbers the part of each patch) `removed` + 1 become one."""
        scores = self.rng.lognormal(size=len(self.anchor))
        target = np.arange(len(self.anchor))
        factor = np.ones(len(self.anchor))
        for part in np.unique(of):
            tokens = np.flatnonzero(of[self.anchor] == part)
            lowest = tokens[np.argsort(scores[tokens], kind="stable")][: removed + 1]
            target[lowest] = lowest[-1]
            factor[lowest] = np.arange(len(lowest), 0, -1) / np.arange(len(lowest) + 1).sum()
        self._reduce(target, factor)
        self.add(name, where, layer, scores[np.unique(target)])

    def leave(self, patches: np.ndarray, slot: int) -> None:
        """Tokens anchored at `patches` go, as -1 dropped or -2 padding; what merged into them is dropped."""
        gone = np.isin(self.slot, np.flatnonzero(np.isin(self.anchor, patches)))
        self.weight[gone] = 0
        self.slot[gone] = -1
        self.slot[np.intersect1d(patches, np.flatnonzero(gone))] = slot
        self._renumber()

    def pool(self, cell: np.ndarray) -> None:
        """Tokens whose anchors share a `cell` (one number per patch) become one."""
        anchors = {}
        for token, patch in enumerate(self.anchor):
            anchors.setdefault(cell[patch], token)
        target = np.array([anchors[cell[patch]] for patch in self.anchor])
        sizes = np.bincount(target, minlength=len(target))
        self._reduce(target, 1 / sizes[target])
        self.add("pooled", "pool", None, None)

    def _reduce(self, target: np.ndarray, factor: np.ndarray) -> None:
        alive = self.slot >= 0
        self.weight[alive] *= factor[self.slot[alive]]
        self.slot[alive] = target[self.slot[alive]]
        self._renumber()

    def _renumber(self) -> None:
        alive = self.slot >= 0
        used, self.slot[alive] = np.unique(self.slot[alive], return_inverse=True)
        self.anchor = self.anchor[used]


def grid(rows: int, columns: int, cell: float, top: float = 0.0) -> list[Extent]:
    return [(c * cell, top + r * cell, cell, cell) for r in range(rows) for c in range(columns)]


def image_payload(picture: Image.Image | None = None, side: int = 12, cell: int = 32) -> dict[str, Any]:
    """An image of 4:3 as one overview and 2x2 tiles of `side` x `side` patches, padded above and below."""
    extent = side * cell
    picture = (picture or _picture(2 * extent, 3 * extent // 2)).resize((2 * extent, 3 * extent // 2))
    margin = extent // 4  # of each tile row: the padded square is 2 x 2 tiles
    views, boxes, view, padding = [], [], [], []
    small = picture.resize((extent, 3 * extent // 4))
    for index in range(5):
        row, column = divmod(index - 1, 2)
        top = 0 if row else margin  # padding lies above the upper tiles and below the lower ones
        cut = (column * extent, row * 3 * extent // 4, (column + 1) * extent, (row + 1) * 3 * extent // 4)
        part = picture.crop(cut) if index else small
        views.append(_view(part, f"tile {row + 1},{column + 1}" if index else "overview"))
        found = grid(side, side, cell, -top if index else -extent / 8)
        boxes += found
        view += [index] * len(found)
        padding += [not 0 <= y + cell / 2 < part.height for _, y, _, _ in found]
    padding = np.array(padding)
    run = Traced(len(boxes), padding)
    tiles = np.array(view)
    for layer in (5, 6, 7, 8):
        run.merge(f"tower, layer {layer}", "tower", layer, side * side // 8, tiles)
    run.leave(np.flatnonzero(padding), -2)
    run.add("unpadded", "pool", None, None)
    run.merge("LLM, layer 8", "llm", 8, int(len(run.anchor) * 0.3), np.zeros(len(boxes), int))
    payload = _payload(run, boxes, view, padding, "What is shown in the picture?")
    return payload | {"media": [{"kind": "image", "source": "photo.jpg", "views": views}]}


def video_payload(
    pictures: list[Image.Image] | None = None, frames: int = 32, side: int = 14, heat: int = 8
) -> dict[str, Any]:
    """A clip of `frames` frames of `side` x `side` patches, pooled by 2 x 2; `heat` maps of attention."""
    size = (side * 24, side * 18)
    pictures = [p.resize(size) for p in pictures or [_picture(*size, seed=i) for i in range(frames)]]
    views = [_view(p, f"frame {i} ({i / 2:.1f} s)") for i, p in enumerate(pictures)]
    boxes = [(c * 24.0, r * 18.0, 24.0, 18.0) for r in range(side) for c in range(side)] * frames
    view = np.repeat(np.arange(frames), side * side)
    row, column = np.divmod(np.tile(np.arange(side * side), frames), side)
    run = Traced(len(boxes))
    for layer in (3, 4, 5, 6):
        run.merge(f"tower, layer {layer}", "tower", layer, side * side // 8, view)
    run.pool((view * side + row // 2) * side + column // 2)
    run.merge("LLM, layer 2", "llm", 2, int(len(run.anchor) * 0.3), np.zeros(len(boxes), int))
    dropped = run.rng.choice(run.anchor, len(run.anchor) // 5, replace=False)
    run.leave(dropped, -1)
    run.add("LLM, layer 12", "llm", 12, None)
    payload = _payload(run, boxes, view.tolist(), np.zeros(len(boxes), bool), "What happens?", heat)
    return payload | {
        "media": [{"kind": "video", "source": "clip.mp4", "views": views}],
        "note": ["The page shows 32 of 400 frames."],
    }


def _payload(
    run: Traced, boxes: list[Extent], view: list[int], padding: np.ndarray, prompt: str, heat: int = 6
):
    wave = np.hypot(*(np.array(boxes)[:, :2].T - np.array(boxes)[:, :2].mean(0, keepdims=True).T))
    maps = []
    for layer in range(heat):
        values = (
            np.exp(-((wave / wave.max() - layer / heat) ** 2) * 8)
            * run.rng.lognormal(0, 0.3, len(boxes))
            / 700
        )
        maps.append({"name": f"tower, layer {layer}", "where": "tower", "layer": layer})
        maps[-1]["values"] = [None if p else float(f"{v:.4g}") for v, p in zip(values, padding, strict=True)]
    layers = np.arange(28)
    visual = 0.08 + 0.5 * np.exp(-layers / 3)
    return {
        "version": 1,
        "title": "What the model saw",
        "prompt": prompt,
        "model": "llava-onevision-7b",
        "preset": "image",
        "config": {
            "layout": "grid",
            "vision": {"layers": [5, 6, 7, 8], "r": 92},
            "llm": {"layers": [8], "keep": 0.7},
        },
        "note": [],
        "answers": {
            "merged": _answer("A red kite over a beach, with two people who hold its line.", 1.0),
            "plain": _answer("A red kite over a beach, and two people hold its line.", 2.1),
            "agreement": {"same": False, "first_difference": 7, "kl": 0.0132},
        },
        "patches": {
            "medium": [0] * len(boxes),
            "view": list(view),
            "box": [list(box) for box in boxes],
            "padding": padding.astype(int).tolist(),
        },
        "stages": run.stages,
        "heat": maps,
        "shares": {
            "layers": layers.tolist(),
            "system": np.round(0.9 - visual - 0.15, 4).tolist(),
            "visual": np.round(visual, 4).tolist(),
            "instruction": [0.15] * len(layers),
            "other": [0.1] * len(layers),
        },
    }


def _answer(text: str, factor: float) -> dict[str, Any]:
    visual = {"patches": 720, "vision_kept": 360, "llm_in": 360, "llm_kept": round(252 * factor)}
    times = {
        "load_s": 9.1,
        "media_s": 0.02,
        "vision_s": 0.11,
        "prefill_s": 0.23,
        "decode_s": 0.61,
        "ttft_s": 0.36,
    }
    return {
        "text": text,
        "usage": {"prompt_tokens": 412, "completion_tokens": 15, "visual": visual},
        "timings": {name: value * factor for name, value in times.items()},
        "memory": {"peak_bytes": round(16.2e9 * (0.9 + factor / 10))},
    }


def _picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Blue everywhere: what the page paints over it is easily told apart."""
    return Image.new("RGB", (width, height), (20, 40, 200 - seed))


def _view(picture: Image.Image, label: str) -> dict[str, Any]:
    data = io.BytesIO()
    picture.convert("RGB").save(data, "JPEG", quality=80)
    src = "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
    return {"label": label, "src": src, "width": picture.width, "height": picture.height}
