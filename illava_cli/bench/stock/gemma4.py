"""Gemma 4 as `transformers` takes its media: patches with their places, filled up to its budget."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from illava_cli.bench.flops import DecoderShape, Projector, TowerShape
from illava_cli.bench.stock.base import StockFamily
from illava_cli.models.families.gemma4 import BUDGETS, patch_places
from illava_cli.models.media import Pixels

# how the unmodified model calls patches and places
STOCK_NAMES = {
    "image": ("pixel_values", "image_position_ids"),
    "video": ("pixel_values_videos", "video_position_ids"),
}
COUNTS = "num_frames_per_video"


class StockGemma4(StockFamily):
    """Images, and the frames of all videos, of as many patches each."""

    def tower_shape(self) -> tuple[TowerShape, Projector]:
        vision, text = self.vision_config, self.family.text_config.hidden_size
        values = 3 * vision.patch_size**2
        tower = TowerShape(
            vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers, values, gated=True
        )
        return tower, ((vision.hidden_size, text),)

    def layers_apart(self, shape: DecoderShape) -> dict[int, DecoderShape]:
        layers, text, found = self.family.layers, self.family.text_config, {}
        experts = text.top_k_experts * text.moe_intermediate_size if text.enable_moe_block else 0
        for number, block in enumerate(layers.blocks):
            attention, borrows = block.self_attn, number in layers.borrowing
            found[number] = replace(
                shape,
                query_width=attention.o_proj.in_features,
                key_width=0 if borrows else attention.k_proj.out_features,
                values=not borrows and attention.v_proj is not None,
                inner=block.mlp.gate_proj.out_features + experts,
                router=text.num_experts if experts else 0,
                window=layers.windows.get(layers.kinds[number]),
                further=2 * text.hidden_size * text.hidden_size_per_layer_input,
                ahead=text.hidden_size * text.hidden_size_per_layer_input,
            )
        return found

    def inputs(self, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        inputs: dict[str, Tensor] = {}
        for kind, (values, places) in STOCK_NAMES.items():
            chosen = [pixels for pixels in media if pixels.kind == kind]
            if not chosen:
                continue
            most = max(filled_up(pixels.tokens) for pixels in chosen) * self.family.patches_per_token
            patches, where = zip(*(self._filled(pixels, most) for pixels in chosen), strict=True)
            if kind == "video":
                inputs |= together(model, patches, where)
            else:
                inputs |= {values: torch.cat(patches), places: torch.cat(where)}
        return inputs

    def _filled(self, pixels: Pixels, most: int) -> tuple[Tensor, Tensor]:
        """Patches (S, P, values) and their places (S, P, 2) of a medium, filled up to `most`."""
        patches = pixels.pixel_values(0, pixels.segments)
        where = patch_places(*pixels.form.groups, self.family.side).expand(pixels.segments, -1, -1)
        pad = (0, 0, 0, most - patches.shape[1])
        return nn.functional.pad(patches, pad), nn.functional.pad(where, pad, value=-1)

    def run_vision(self, model: nn.Module, inputs: dict[str, Tensor]) -> None:
        for kind, names in STOCK_NAMES.items():
            if names[0] in inputs:
                more = (COUNTS,) if kind == "video" and COUNTS in inputs else ()
                getattr(model.model, f"get_{kind}_features")(*(inputs[name] for name in (*names, *more)))


def filled_up(tokens: int) -> int:
    """The budget up to which the processor fills a picture of so many tokens."""
    return next(budget for budget in BUDGETS if budget >= tokens)


def together(model: nn.Module, patches: Sequence[Tensor], places: Sequence[Tensor]) -> dict[str, Tensor]:
    """The frames of several videos, (frames, P, ...) each, as a release of `transformers` takes them.

    Later ones take all frames in a row, with the number of each video's; 5.17 as many of each video.
    """
    names = STOCK_NAMES["video"]
    if COUNTS not in inspect.signature(model.model.get_video_features).parameters:
        return {name: torch.stack(list(parts)) for name, parts in zip(names, (patches, places), strict=True)}
    counts = torch.tensor([len(frames) for frames in patches])
    return {names[0]: torch.cat(list(patches)), names[1]: torch.cat(list(places)), COUNTS: counts}
