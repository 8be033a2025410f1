"""A model plugin for lmms-eval, the public benchmark harness: `python -m lmms_eval --model illava`.

The harness finds `manifest` by the entry point `lmms_eval.models`. Only `model.py` needs the harness; how
its arguments, messages and decoding options are read, and how batches are answered, does not.
"""

from __future__ import annotations

MISSING = "lmms-eval 0.7 or later is needed here ({error}): pip install 'illava[lmms]'"


def manifest():
    """What the harness registers: the name `illava`, and its class for chat messages.

    Raises:
        ImportError: no lmms-eval, in one line.
    """
    try:
        from lmms_eval.models.registry_v2 import ModelManifest
    except ImportError as error:
        raise ImportError(MISSING.format(error=error)) from None
    return ModelManifest(model_id="illava", chat_class_path=f"{__name__}.model.Illava")
