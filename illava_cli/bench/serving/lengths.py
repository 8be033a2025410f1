"""Answers of equal length: how a server is told that an answer does not end by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from illava_cli.bench.serving.asking import Asker
from illava_cli.bench.serving.samples import Sample

if TYPE_CHECKING:
    from illava_cli.config.settings import Config

NEVER = -100  # the least that OpenAI takes
QUESTION = [{"role": "user", "content": "Hello"}]


def ways(end_tokens: Sequence[int]) -> dict[str, dict[str, Any]]:
    """What may be sent for it, by name, the best first."""
    found = {"ignore_eos": {"ignore_eos": True}}  # vLLM's and SGLang's
    if end_tokens:
        found["logit_bias"] = {"logit_bias": {str(token): NEVER for token in end_tokens}}
    return found


async def accepted(asker: Asker, end_tokens: Sequence[int]) -> tuple[str | None, dict[str, Any]]:
    """The first of the ways that the server takes, and its fields; None and none where it takes none."""
    for name, fields in ways(end_tokens).items():
        sample = await asker.ask(QUESTION, Sample(0.0), **{**fields, "max_tokens": 1})
        if sample.error is None:
            return name, fields
    return None, {}


def end_tokens(config: Config) -> list[int]:
    """The tokens that end an answer of a checkpoint on this machine; none where its files do not say."""
    from illava_cli.models.catalog import RANDOM, local_folder

    name = config.model.id
    if name.startswith(RANDOM):
        return []
    folder = local_folder(name)
    if folder is None:
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(name, "config.json", revision=config.model.revision)
        if not isinstance(path, str):
            return []
        folder = Path(path).parent
    for file in ("generation_config.json", "config.json"):
        found = _eos(folder / file)
        if found is not None:
            return found if isinstance(found, list) else [found]
    return []


def _eos(path: Path) -> Any:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return said.get("eos_token_id", said.get("text_config", {}).get("eos_token_id"))
    except (OSError, ValueError, AttributeError):
        return None
