"""Methods that reduce a whole clip over all of its frames together. One file a method.

`CLIP_METHODS` choose among the tokens that leave the tower, `FRAME_METHODS` among the frames inside it.
"""

from __future__ import annotations

from collections.abc import Callable

from illava_cli.reduction.clips.distinct import distinct, distinct_assign
from illava_cli.reduction.clips.evs import evs
from illava_cli.reduction.clips.fastvid import fastvid
from illava_cli.reduction.clips.frames import FrameTokens, alike, early_tom
from illava_cli.reduction.clips.holitom import holitom
from illava_cli.reduction.clips.runs import runs
from illava_cli.reduction.clips.tokens import ClipTokens
from illava_cli.reduction.clips.vidcom2 import vidcom2
from illava_cli.reduction.merge import Assignment

CLIP_METHODS: dict[str, Callable[[ClipTokens], Assignment]] = {
    "distinct": distinct,
    "distinct-assign": distinct_assign,
    "evs": evs,
    "fastvid": fastvid,
    "holitom": holitom,
    "vidcom2": vidcom2,
}

FRAME_METHODS: dict[str, Callable[[FrameTokens], Assignment]] = {
    "alike": alike,
    "early-tom": early_tom,
    "runs": runs,
}

__all__ = ["CLIP_METHODS", "FRAME_METHODS", "ClipTokens", "FrameTokens"]
