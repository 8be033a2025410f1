"""A plugin for `llm`: `llm -m illava/tiny 'What is shown?' -a x.jpg`, in this process, without a server.

`llm` finds it by the entry point `llm`. Each name of `illava models list` is a model. What they are is known
from the names alone: torch is imported, and a model loaded, when one is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llm

from illava_cli.config.places import shipped
from illava_cli.integrations.llm.model import Illava


@llm.hookimpl
def register_models(register: Callable[..., Any]) -> None:
    """Tell `llm` the models that are shipped."""
    for name in shipped("models"):
        register(Illava(name))
