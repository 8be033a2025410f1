"""The model of a configuration, for every command that asks one."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from illava_cli.cli.messages import Messages
    from illava_cli.config.settings import Config
    from illava_cli.engine.session import Session


def load(config: Config, messages: Messages) -> Session:
    """The model of a configuration, with a word to a person who waits."""
    with messages.loading(str(config.model.id)), _collector_paused():
        from illava_cli.engine.opening import load as load_session

        if not gc.get_freeze_count():  # a later model finds another one's remains, which have to go
            gc.freeze()  # no collection, such as one amid an answer, walks the modules
            atexit.register(gc.unfreeze)  # or the interpreter could not take them apart
        return load_session(config=config, on_note=messages.note)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No collections meanwhile: torch and transformers make half a million objects, none of them garbage, and
    walking them again and again is a sixth of a start.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
