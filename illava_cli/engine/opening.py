"""From a configuration to a session: the model is loaded, and its schedules are planned."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from illava_cli.config.settings import Config
from illava_cli.config.sources import grouped, resolve
from illava_cli.engine.features import FeatureCache
from illava_cli.engine.grammar import require_grammars
from illava_cli.engine.passes import Passes
from illava_cli.engine.resolved import find_guides
from illava_cli.engine.runner import Runner
from illava_cli.engine.session import Session, under
from illava_cli.errors import UsageError
from illava_cli.models.loading import load_family


def load(
    model: str | None = None,
    *,
    config: Config | None = None,
    on_note: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> Session:
    """Load a model.

    Args:
        model: a name from `illava models list`, a YAML path, a checkpoint directory, a hub id or
            `random:NAME`; the default is `$ILLAVA_MODEL`, else a LLaVA-OneVision that fits the machine.
        config: a whole configuration instead.
        on_note: takes one-line messages for a person (a download, a schedule left out).
        settings: `preset`, `method`, `guide`, `vision`, `llm` and the like, or any field of the groups
            model, media and generation by its own name (`device="cuda"`, `num_frames=8`, `max_tokens=64`).

    Raises:
        UsageError, ModelError: as the command line would say it.
    """
    if config is not None and (model is not None or settings):
        raise UsageError("load takes a whole config or single settings, not both")
    config = config or resolve(model, overrides=grouped(settings))
    started = time.perf_counter()
    require_grammars(config)
    find_guides(config, on_note)
    runner = Runner(load_family(config, on_note))
    passes = Passes(runner, on_note=on_note)
    session = under(passes, config, on_note, FeatureCache(config.model.feature_cache_mb << 20))
    runner.load_seconds = time.perf_counter() - started
    return session
