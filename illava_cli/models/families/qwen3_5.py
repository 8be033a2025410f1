"""Qwen3.5 and 3.6: Qwen3-VL's tower without DeepStack, and a decoder of mostly linear attention.

Three of four decoder layers are a gated delta rule (arXiv 2412.06464): what they hold of a row is a state of
fixed size, and no token receives attention there that it could be ranked by. So a merge in the decoder stands
before a layer that follows one of full attention; the states of the layers from there on are those of the
merged sequence (`models/states.py`). The rule runs in float32 whatever the model's dtype is.
"""

from __future__ import annotations

from transformers import Qwen3_5ForConditionalGeneration, Qwen3_5MoeForConditionalGeneration

from illava_cli.models.families.qwen3_vl import Qwen3VL


class Qwen3_5(Qwen3VL):
    """`transformers`' Qwen3_5ForConditionalGeneration with merge points."""

    key = "qwen3_5"
    stock_class = Qwen3_5ForConditionalGeneration

    @classmethod
    def tokenizer_folder(cls) -> str:
        return "qwen3.5"


class Qwen3_5Moe(Qwen3_5):
    """`transformers`' Qwen3_5MoeForConditionalGeneration with merge points; experts change none of them."""

    key = "qwen3_5_moe"
    stock_class = Qwen3_5MoeForConditionalGeneration
