"""Help texts are docstrings, which `python -OO` strips; the source still has them."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def described(thing: T) -> T:
    """A function or class with its docstring, read from its source where it was stripped."""
    if thing.__doc__ is None and sys.flags.optimize > 1:
        with suppress(OSError, TypeError, SyntaxError):  # without sources there is no help either
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
            thing.__doc__ = ast.get_docstring(node, clean=False)
    return thing
