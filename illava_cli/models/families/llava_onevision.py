"""LLaVA-OneVision: a SigLIP tower over tiles or frames, an MLP projector, a Qwen2 decoder.

An image is tiled when it is the only one, or where each is to be, else it is one padded square. Frames of a
video are pooled 2x2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration

from illava_cli.config.options import MediaOptions
from illava_cli.errors import ModelError
from illava_cli.models.families.llava import Llava
from illava_cli.models.families.pooled import Frames
from illava_cli.models.frames import stacked
from illava_cli.models.hf import LlavaOnevisionImageProcessorPil
from illava_cli.models.media import Pixels, normalised


class LlavaOnevision(Llava):
    """`transformers`' LlavaOnevisionForConditionalGeneration with merge points."""

    key = "llava_onevision"
    stock_class = LlavaOnevisionForConditionalGeneration
    image_processor_class = LlavaOnevisionImageProcessorPil
    special_tokens: ClassVar = {"image": "<image>", "video": "<video>"}
    markers: ClassVar = special_tokens
    frames_of_one_size = True

    def bind(self) -> None:
        aspect = self.model.config.vision_aspect_ratio
        if not re.fullmatch(r"anyres_max_\d+", aspect):
            raise ModelError(f"vision_aspect_ratio {aspect!r} is not supported")
        self.max_tiles = int(aspect.removeprefix("anyres_max_"))
        # LLaVA-Video ends each row of each frame with a newline, LLaVA-OneVision the whole video
        self.row_newlines = getattr(self.model.config, "mm_newline_position", "one_token") == "grid"
        super().bind()

    # --- pixels -------------------------------------------------------------------------------

    def _pinpoints(self, options: MediaOptions, alone: bool) -> list[list[int]]:
        return super()._pinpoints(options, alone) if alone else []

    def frame_size(
        self, size: tuple[int, int], frames: int, options: MediaOptions = MediaOptions()
    ) -> tuple[int, int]:
        self.refuse_pixels(options)
        return self.tile.edge, self.tile.edge  # the video processor squashes a frame: no aspect kept, no crop

    def _frames(self, size: tuple[int, int], frames: int) -> Frames:
        return Frames(self.tile, size, frames, self.row_newlines)

    def preprocess_video(self, frames: Sequence[np.ndarray]) -> Pixels:
        def pixel_values(start: int, stop: int) -> Tensor:
            values = torch.from_numpy(stacked(frames, start, stop)).permute(0, 3, 1, 2)
            return normalised(values, self.video_settings, channel=1)

        geometry = self.geometry("video", frames[0].shape[:2], len(frames))
        return geometry.filled(pixel_values, lambda n: [frames[n]])
