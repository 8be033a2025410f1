"""LLaVA-NeXT: a CLIP tower over tiles, an MLP projector, a Llama or Mistral decoder.

Every image is tiled, also one of several, and nothing is pooled. It takes images only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import LlavaNextForConditionalGeneration

from illava_cli.models.hf import LlavaNextImageProcessorPil
from illava_cli.models.llava import Llava
from illava_cli.models.media import Pixels


class LlavaNext(Llava):
    """`transformers`' LlavaNextForConditionalGeneration with merge points."""

    key = "llava_next"
    stock_class = LlavaNextForConditionalGeneration
    image_processor_class = LlavaNextImageProcessorPil
    special_tokens: ClassVar = {"image": "<image>"}
    markers: ClassVar = special_tokens
    own_preset = "llava-next"

    @property
    def placeholder_ids(self) -> dict[int, str]:
        return {self.model.config.image_token_id: "image"}

    # --- the unmodified model -----------------------------------------------------------------

    def stock_inputs(self, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        # by this the model counts an image's tiles: one without area leaves the whole picture alone
        model.config.image_grid_pinpoints = getattr(media[0].form, "pinpoints", [[0, 0]])
        return {
            # images of fewer tiles are padded
            "pixel_values": pad_sequence([p.pixel_values(0, p.segments) for p in media], batch_first=True),
            "image_sizes": torch.tensor([p.form.size for p in media]),
        }

    def stock_vision(self, model: nn.Module, inputs: dict[str, Tensor]) -> None:
        model.model.get_image_features(inputs["pixel_values"], inputs["image_sizes"])
