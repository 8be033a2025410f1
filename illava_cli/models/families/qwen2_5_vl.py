"""Qwen2.5-VL: Qwen2-VL with attention in windows in most blocks of the tower, and time in its positions.

A block sees windows of 112x112 pixels (4x4 groups of 2x2 patches), one of `fullatt_block_indexes` the whole
frame. `models/windows.py` says what follows for a merge. As in Qwen2-VL `floor(drop * groups)` groups leave
a frame, so that counts are known on the host; survivors keep the window of their anchor, and windows thin
out unequally.

Which layers should merge: a score is attention received, and in a windowed block a patch receives it from
its own window alone. Every query's attention sums to 1, so a window of sky hands out as much per patch as
one that holds the text. Such scores, given as multiples of an even share so that small windows can stand
beside large ones, rank the patches within a window and say nothing about one window against another. In a
full-attention block all patches of a frame compete for the same queries. So the presets merge there, in the
first two of four, and, as in Qwen2-VL, half of the groups leave before the second half of the tower. A
windowed layer can be named too.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from illava_cli.models.families.qwen2_vl import Qwen2VL
from illava_cli.models.media import Pixels, Run
from illava_cli.models.tower_pass import TowerPass, TowerTokens
from illava_cli.models.windows import Windows


def seconds_per_grid(medium: Pixels | Run, frames: int) -> float:
    """Seconds from one group of `frames` to the next; 1 without known times, as in `transformers`."""
    steps = len(medium.times) - 1
    interval = (medium.times[-1] - medium.times[0]) / steps if steps > 0 else 0
    return interval * frames or 1.0


class Qwen2_5VL(Qwen2VL):
    """`transformers`' Qwen2_5_VLForConditionalGeneration with merge points."""

    key = "qwen2_5_vl"
    stock_class = Qwen2_5_VLForConditionalGeneration

    @classmethod
    def tokenizer_folder(cls) -> str:
        return "qwen2-vl"  # the same words, template and image processor

    def bind(self) -> None:
        config = self.model.config.vision_config
        self.full_attention = frozenset(config.fullatt_block_indexes)
        self.window = config.window_size // (config.patch_size * config.spatial_merge_size)
        super().bind()

    def bytes_per_token(self) -> int:
        config = self.model.config.vision_config
        width = 8 * config.hidden_size + 3 * config.intermediate_size
        return width * self.patches_per_token * self.model.dtype.itemsize

    # --- tower --------------------------------------------------------------------------------

    def run_tower(self, pixels: Pixels, pixel_values: Tensor, run: TowerPass) -> Tensor:
        windows = Windows.of(
            pixels.form.groups, self.window, run.segments, run.group, run.device, self.model.dtype
        )
        run.tokens = replace(run.tokens, windows=windows)
        return super().run_tower(pixels, pixel_values, run)

    def block_arguments(self, layer: int, tokens: TowerTokens) -> dict:
        arguments = super().block_arguments(layer, tokens)
        return arguments if layer in self.full_attention else arguments | {"windows": tokens.windows}

    # --- decoder ------------------------------------------------------------------------------

    def time_arguments(self, videos: list[Run]) -> dict[str, Tensor]:
        """Seconds from one pair of frames to the next: a second is `tokens_per_second` positions."""
        return {"second_per_grid_ts": torch.tensor([seconds_per_grid(run, self.temporal) for run in videos])}
