"""Methods that reduce a whole clip after the tower, over all of its frames together. One file a method."""

from __future__ import annotations

from collections.abc import Callable

from illava_cli.reduction.clips.distinct import distinct, distinct_assign
from illava_cli.reduction.clips.evs import evs
from illava_cli.reduction.clips.tokens import ClipTokens
from illava_cli.reduction.merge import Assignment

CLIP_METHODS: dict[str, Callable[[ClipTokens], Assignment]] = {
    "distinct": distinct,
    "distinct-assign": distinct_assign,
    "evs": evs,
}

__all__ = ["CLIP_METHODS", "ClipTokens"]
