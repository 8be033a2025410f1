"""LLaVA-NeXT: a CLIP tower over tiles, an MLP projector, a Llama or Mistral decoder.

Every image is tiled, also one of several, and nothing is pooled. It takes images only.
"""

from __future__ import annotations

from typing import ClassVar

from transformers import LlavaNextForConditionalGeneration

from illava_cli.models.hf import LlavaNextImageProcessorPil
from illava_cli.models.llava import Llava


class LlavaNext(Llava):
    """`transformers`' LlavaNextForConditionalGeneration with merge points."""

    key = "llava_next"
    stock_class = LlavaNextForConditionalGeneration
    image_processor_class = LlavaNextImageProcessorPil
    special_tokens: ClassVar = {"image": "<image>"}
    markers: ClassVar = special_tokens

    @property
    def placeholder_ids(self) -> dict[int, str]:
        return {self.model.config.image_token_id: "image"}
