"""Where the tokens that the decoder keeps lie: by quarter of the visual sequence, and by frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from illava_cli.engine.record import Generation
from illava_cli.trace import VISUAL, Trace

QUARTERS = 4


def survivors(answer: Generation) -> dict[str, list[int]] | None:
    """Counts of visual tokens that are left after the decoder's last merge.

    Args:
        answer: with its trace.

    Returns:
        `quarters`, by place among the visual tokens that entered the decoder, and for one video `frames`
        (Qwen's pairs of them), by the place that a token keeps; None for a question without media.
    """
    trace = answer.trace
    kinds = trace["kinds"][0].cpu()  # (T,)
    visual = (kinds == VISUAL).nonzero().squeeze(1)
    if not len(visual):
        return None
    left = torch.arange(len(kinds))
    for _, merge in trace["llm"]:
        left = left[merge.anchor[0].cpu()]
    rank = torch.isin(visual, left).nonzero().squeeze(1)  # among the visual tokens
    found = {"quarters": torch.bincount(rank * QUARTERS // len(visual), minlength=QUARTERS).tolist()}
    if [medium.kind for medium in answer.media] == ["video"]:
        frame = _frames(trace)[visual[rank]]
        found["frames"] = torch.bincount(frame, minlength=trace["segments"][0]).tolist()
    return found


def _frames(trace: Trace) -> Tensor:
    """(T,) the frame in which each token of the only video keeps its place; text and newlines have any."""
    (views,), (merges,), (layout,), (where,) = (
        trace[name] for name in ("views", "vision", "layout", "where")
    )
    cells = views[0].rows * views[0].columns
    cell = torch.arange(len(views) * cells)
    for _, merge in sorted(merges.items()):
        cell = cell[merge.anchor[0].cpu()]
    frame = torch.zeros(trace["kinds"].shape[1], dtype=torch.long)
    frame[where.cpu()] = cell[layout.anchor[0].cpu()] // cells
    return frame


def shares(records: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The share of the survivors that lies in each part, over all answers that noted them; sums to 1.

    `frames` by number of frames, since videos of different length have no frames in common.
    """
    noted = [record["survivors"] for record in records if record.get("survivors")]
    if not noted:
        return None
    lengths = sorted({len(found["frames"]) for found in noted if "frames" in found})
    by_length = {
        length: [found["frames"] for found in noted if len(found.get("frames", ())) == length]
        for length in lengths
    }
    return {
        "quarters": _share([found["quarters"] for found in noted]),
        "frames": {str(length): _share(counts) for length, counts in by_length.items()},
    }


def _share(counts: list[list[int]]) -> list[float]:
    sums = [sum(column) for column in zip(*counts, strict=True)]
    return [value / sum(sums) for value in sums]
