"""What a run's records say beside the answer, and the records of items that have none. Imports no torch."""

from __future__ import annotations

import time
from typing import Any

from illava_cli.batch.item import Item
from illava_cli.config.settings import Config
from illava_cli.engine.record import error_record


def asked(item: Item) -> dict[str, Any]:
    """What a record says beside the answer."""
    return {"prompt": item.prompt, "request_hash": item.request_hash, "created": int(time.time())}


def failure(item: Item, base: Config, error: Exception) -> dict[str, Any]:
    """The record of an item that has no answer; `base` is the run's configuration."""
    config = item.config(base)
    about = {"model": str(config.model.id), "preset": config.preset, "seed": config.generation.seed}
    return error_record(error, id=item.id, config_hash=config.hash(), **about) | asked(item)
