"""Small random checkpoints in the hub's file layout, so that every test runs with no download.

    write_llava_next(folder, text_config={"model_type": "mistral"})
    write_llava_onevision(folder, layout="old", text_config={"num_hidden_layers": 4})
    write_qwen2_vl(folder, seed=1, tie_word_embeddings=True)

`layout="new"` is what transformers 5 writes; `layout="old"` is what the hub's repositories hold: flat
processor files, `chat_template.json`, and the older config and weight names. Weights are drawn wide:
attention is peaked, and logits have a standard deviation near 1. So a changed image, position or merge
decision shows in the logits. Anything in `overrides` replaces a config value, nested or not.
"""

from collections.abc import Callable
from pathlib import Path

from tests.builders.common import TOKENIZERS
from tests.builders.gemma4 import write_gemma4
from tests.builders.internvl import write_internvl
from tests.builders.llava import NEXT_PINPOINTS, PINPOINTS, write_llava_next, write_llava_onevision
from tests.builders.qwen2_vl import write_qwen2_5_vl, write_qwen2_vl
from tests.builders.qwen3_5 import write_qwen3_5, write_qwen3_5_moe
from tests.builders.qwen3_vl import write_qwen3_vl, write_qwen3_vl_moe

# by the `model_type` of a checkpoint
WRITERS: dict[str, Callable[..., Path]] = {
    "gemma4": write_gemma4,
    "internvl": write_internvl,
    "llava_next": write_llava_next,
    "llava_onevision": write_llava_onevision,
    "qwen2_vl": write_qwen2_vl,
    "qwen2_5_vl": write_qwen2_5_vl,
    "qwen3_5": write_qwen3_5,
    "qwen3_5_moe": write_qwen3_5_moe,
    "qwen3_vl": write_qwen3_vl,
    "qwen3_vl_moe": write_qwen3_vl_moe,
}

__all__ = [
    "NEXT_PINPOINTS",
    "PINPOINTS",
    "TOKENIZERS",
    "WRITERS",
    "write_gemma4",
    "write_internvl",
    "write_llava_next",
    "write_llava_onevision",
    "write_qwen2_5_vl",
    "write_qwen2_vl",
    "write_qwen3_5",
    "write_qwen3_5_moe",
    "write_qwen3_vl",
    "write_qwen3_vl_moe",
]
