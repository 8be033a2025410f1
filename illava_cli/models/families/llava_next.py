"""LLaVA-NeXT: a CLIP tower over tiles, an MLP projector, a Llama or Mistral decoder.

Every image is tiled, also one of several, and nothing is pooled. It takes images only.
"""

from __future__ import annotations

from typing import ClassVar

from transformers import LlavaNextForConditionalGeneration

from illava_cli.models.families.llava import Llava
from illava_cli.models.hf import LlavaNextImageProcessorPil


class LlavaNext(Llava):
    """`transformers`' LlavaNextForConditionalGeneration with merge points."""

    key = "llava_next"
    stock_class = LlavaNextForConditionalGeneration
    image_processor_class = LlavaNextImageProcessorPil
    special_tokens: ClassVar = {"image": "<image>"}
    markers: ClassVar = special_tokens
