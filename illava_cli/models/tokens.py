"""What is aligned with tokens, as one value whose fields each say how they follow a `Merge`.

A tower's tokens, its survivors and a decoder's new tokens are `Tokens` with fields of their own. A field is
declared with `aligned(HOW)`; whoever merges calls `after`, and nothing that rides along can be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from illava_cli.reduction import Merge

T = TypeVar("T", bound="Tokens")

FOLLOW: dict[str, Callable[[Merge, Tensor], Tensor]] = {
    "apply": Merge.apply,  # weighted sums: features
    "keep": Merge.keep,  # the anchor's: places, positions, marks
    "total": Merge.total,  # sums: how many tokens each stands for
}


def aligned(how: str, **options: Any) -> Any:
    """A dataclass field (B, N, ...) that follows a merge as `how`, a key of `FOLLOW`, says.

    It holds a tensor, a tuple or a dict of tensors that all follow alike, or None.
    """
    return field(metadata={"follows": FOLLOW[how]}, **options)


@dataclass(frozen=True)
class Tokens:
    """N tokens of each of B rows; fields that are not `aligned` belong to all of them."""

    def after(self: T, merge: Merge) -> T:
        """What is left behind a merge (B, N) -> (B, M)."""
        return self._mapped(lambda follow, x: follow(merge, x))

    def rows(self: T, cut: slice) -> T:
        """Some of the B rows."""
        return self._mapped(lambda follow, x: x[cut])

    def to(self: T, device: torch.device) -> T:
        """The same tokens on another device."""
        return self._mapped(lambda follow, x: x.to(device))

    @classmethod
    def cat(cls: type[T], parts: Sequence[T]) -> T:
        """More rows of as many tokens; what is not aligned is the first's."""
        first = parts[0]
        if len(parts) == 1:
            return first
        names = [f.name for f in fields(first) if "follows" in f.metadata]
        return replace(first, **{name: _joined([getattr(part, name) for part in parts]) for name in names})

    def _mapped(self: T, change: Callable[[Callable, Tensor], Tensor]) -> T:
        changed = {}
        for one in fields(self):
            follow, value = one.metadata.get("follows"), getattr(self, one.name)
            if follow is not None and value is not None:
                changed[one.name] = _each(value, lambda x, follow=follow: change(follow, x))
        return replace(self, **changed)


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, dict):
        return {name: change(x) for name, x in value.items()}
    return tuple(map(change, value)) if isinstance(value, tuple) else change(value)


def _joined(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, dict):
        return {name: torch.cat([value[name] for value in values]) for name in first}
    if isinstance(first, tuple):
        return tuple(map(torch.cat, zip(*values, strict=True)))
    return None if first is None else torch.cat(values)
