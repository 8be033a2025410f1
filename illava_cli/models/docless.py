"""`transformers` makes its docstrings of other docstrings while it is imported, and raises where `python -OO`
stripped them.
"""

from __future__ import annotations

import sys
from typing import Any


def keep_docstrings_out() -> None:
    """Let `transformers`' models be imported without docstrings; before any of them is, or it is too late."""
    if sys.flags.optimize > 1:
        from transformers import utils

        for name in ("auto_docstring", "auto_class_docstring"):
            if hasattr(utils, name):
                setattr(utils, name, _as_it_is)


def _as_it_is(thing: Any = None, **texts: Any) -> Any:
    """A decorator, with arguments or without, that changes nothing."""
    return _as_it_is if thing is None else thing
