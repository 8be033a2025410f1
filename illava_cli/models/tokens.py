"""What is aligned with tokens, as one value whose fields each say how they follow a `Merge`.

A tower's tokens, its survivors and a decoder's new tokens are `Tokens` with fields of their own. A field is
declared with `aligned(HOW)`; whoever merges calls `after`, and nothing that rides along can be forgotten.
What belongs to a row and not to its tokens, such as the merges behind them, is declared with `per_row()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from illava_cli.reduction import Merge, gather_tokens

T = TypeVar("T", bound="Tokens")

FOLLOW: dict[str, Callable[[Merge, Any], Any]] = {
    "apply": Merge.apply,  # weighted sums: features
    "keep": Merge.keep,  # the anchor's: places, positions, marks
    "total": Merge.total,  # sums: how many tokens each stands for
    "itself": lambda merge, tokens: tokens.after(merge),  # `Tokens` within `Tokens`
}


def aligned(how: str, **options: Any) -> Any:
    """A dataclass field (B, N, ...) that follows a merge as `how`, a key of `FOLLOW`, says.

    It holds a tensor, a tuple of tensors or a dict of either that all follow alike, or None.
    """
    return field(metadata={"rows": True, "follows": FOLLOW[how]}, **options)


def per_row(**options: Any) -> Any:
    """A dataclass field of B rows whose tokens are not these: no merge changes it.

    It holds a tensor, a `Merge`, a dict of one or the other, or None.
    """
    return field(metadata={"rows": True}, **options)


@dataclass(frozen=True)
class Tokens:
    """N tokens of each of B rows; fields that are not `aligned` belong to all of them."""

    def after(self: T, merge: Merge) -> T:
        """What is left after a merge (B, N) -> (B, M)."""
        return self._mapped("follows", lambda one, x: one.metadata["follows"](merge, x))

    def take(self: T, index: Tensor) -> T:
        """The tokens at `index` (B, M), in that order."""
        return self._mapped(
            "follows", lambda _, x: gather_tokens(x, index) if isinstance(x, Tensor) else x.take(index)
        )

    def across(self: T, merge: Merge) -> T:
        """What is left after rows have merged, each token with its like; `merge` is (1, B) to (1, B')."""

        def follow(one: Field, x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x.across(merge) if isinstance(x, Tokens) else x.rows(merge.anchor[0])
            how = one.metadata.get("follows", FOLLOW["keep"])
            if how is FOLLOW["total"]:
                return how(merge.repeated(x.shape[1]), x.T).T
            return how(merge, x[None])[0]

        return self._mapped("rows", follow)

    def flat(self: T) -> T:
        """The tokens of all rows in one, one row after another; what is a row's own is as it was."""
        return self._mapped("follows", lambda _, x: x.flatten(0, 1)[None])

    def between(self: T, start: int, stop: int) -> T:
        """Some of the N tokens of each row."""
        return self._mapped("follows", lambda _, x: x[:, start:stop])

    def rows(self: T, cut: slice | Tensor) -> T:
        """Some of the B rows."""
        return self._mapped("rows", lambda _, x: x[cut] if isinstance(x, Tensor) else x.rows(cut))

    def to(self: T, device: torch.device) -> T:
        """The same tokens on another device."""
        return self._mapped("rows", lambda _, x: x.to(device))

    @classmethod
    def cat(cls: type[T], parts: Sequence[T]) -> T:
        """More rows of as many tokens; what is not aligned is the first's."""
        first = parts[0]
        if len(parts) == 1:
            return first
        names = [f.name for f in fields(first) if "rows" in f.metadata]
        return replace(first, **{name: _joined([getattr(part, name) for part in parts]) for name in names})

    @classmethod
    def beside(cls: type[T], parts: Sequence[T]) -> T:
        """More tokens of as many rows; what is not aligned is the first's, and what some lack none has."""
        names = [f.name for f in fields(parts[0]) if "follows" in f.metadata]
        own = {name: _joined([getattr(part, name) for part in parts], 1) for name in names}
        return replace(parts[0], **own)

    def _mapped(self: T, kind: str, change: Callable[[Field, Any], Any]) -> T:
        changed = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if kind in one.metadata and value is not None:
                changed[one.name] = _each(value, lambda x, one=one: change(one, x))
        return replace(self, **changed)


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: _each(x, change) for name, x in value.items()}
    return tuple(map(change, value)) if isinstance(value, tuple) else change(value)


def _joined(values: list[Any], dim: int = 0) -> Any:
    first = values[0]
    if any(value is None for value in values):
        return None
    if isinstance(first, dict):
        return {name: _joined([value[name] for value in values], dim) for name in first}
    if isinstance(first, tuple):
        return tuple(_joined(list(each), dim) for each in zip(*values, strict=True))
    return torch.cat(values, dim) if isinstance(first, Tensor) else type(first).cat(values)
