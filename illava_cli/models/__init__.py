"""Model families over `transformers`' own layers, and the two loops with the merge points."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from illava_cli.errors import UsageError
from illava_cli.families import FAMILIES
from illava_cli.models.docless import keep_docstrings_out

if TYPE_CHECKING:
    from illava_cli.models.family import Family

keep_docstrings_out()


def family_class(key: str, source: str) -> type[Family]:
    """The family of a `model_type`.

    Raises:
        UsageError: none that we know.
    """
    if key not in FAMILIES:
        from transformers import CONFIG_MAPPING

        why = "which illava does not know"
        if key not in CONFIG_MAPPING:  # such as LLaVA-OneVision-1.5, which brings code of its own
            why = "for which transformers has no class: code of checkpoints is not run"
        raise UsageError(f"{source} is a {key!r} model, {why} (illava knows: {', '.join(FAMILIES)})")
    module, name = FAMILIES[key].code.split(".")
    return getattr(import_module(f"illava_cli.models.families.{module}"), name)


__all__ = ["family_class"]
