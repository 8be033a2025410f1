"""Gemma 4: pictures of any aspect within a budget, 3x3 cells pooled into tokens, windows in the decoder.

The tower sees patches with two-dimensional rotary embeddings. A cell of 3x3 patches becomes one token, so
that, as in Qwen2-VL, what merges is a whole cell: scores are averaged over it, and its patches merge each
with its like. Were patches to merge one by one, only the device would know how many cells are left. Patches
are put in the order of their cells before the first block, and no padding goes through the tower.

The decoder has layers that see a window and layers that see all, each kind with a rope of its own. In the
large models an image's tokens see one another in the windows; in the small ones a token has embeddings for
every layer, and later layers look at the keys and values of earlier ones. A window counts the tokens that
are there. Nothing merges within: keys that layers share would have to be those of one length, and a window
behind a merge would reach further than the one before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import Gemma4ForConditionalGeneration

from illava_cli.config.options import MediaOptions
from illava_cli.errors import ModelError, UsageError
from illava_cli.models.binding import bind, stock_forward
from illava_cli.models.families.qwen2_vl import PatchGrid
from illava_cli.models.family import Family
from illava_cli.models.frames import common_size, resized, stacked
from illava_cli.models.hf import Gemma4ImageProcessorPil, KVSharingDict, get_aspect_ratio_preserving_size
from illava_cli.models.host import to_device
from illava_cli.models.layers import SLIDING, Layers, Rope
from illava_cli.models.media import Features, Geometry, Pixels, normalised
from illava_cli.models.tower import BlockParts, run_blocks
from illava_cli.models.tower_pass import TowerPass, TowerTokens
from illava_cli.reduction.merge import accumulation_dtype

BUDGETS = (70, 140, 280, 560, 1120)  # tokens of an image or frame, at most
RATE = 24.0  # frames a second of pictures that have no times, as in `transformers`


class Gemma4Layers(Layers):
    """Layers of two kinds, with embeddings of their own and shared keys where a model has them."""

    def __init__(self, text_model: nn.Module, rope_axes: int = 1):
        super().__init__(text_model, rope_axes)
        config = text_model.config
        self.kinds = list(config.layer_types)
        self.own_kinds = tuple(dict.fromkeys(self.kinds))
        self.windows = {SLIDING: config.sliding_window}
        self.both_ways = (SLIDING,) if config.use_bidirectional_attention == "vision" else ()
        self.borrowing = tuple(n for n, layer in enumerate(self.blocks) if layer.self_attn.is_kv_shared_layer)

    def opened(self, embeds: Tensor, position_ids: Tensor) -> tuple[Tensor, dict[str, Rope], Tensor | None]:
        model, width = self.text_model, self.text_model.config.hidden_size
        hidden_states, along = embeds[..., :width], None
        if model.hidden_size_per_layer_input:
            own = embeds[..., width:].unflatten(-1, (len(self.blocks), -1))
            along = model.project_per_layer_inputs(hidden_states, own)  # (B, T, layers, P)
        ropes = {kind: model.rotary_emb(hidden_states, position_ids, kind) for kind in self.own_kinds}
        return hidden_states, ropes, along

    def shared(self) -> KVSharingDict:
        return KVSharingDict()

    def arguments(self, layer: int, along: Tensor | None, shared: Any) -> dict[str, Any]:
        own = None if along is None else along[:, :, layer]
        return {"per_layer_input": own, "shared_kv_states": shared}


class Gemma4(Family):
    """`transformers`' Gemma4ForConditionalGeneration with merge points in its tower."""

    key = "gemma4"
    stock_class = Gemma4ForConditionalGeneration
    image_processor_class = Gemma4ImageProcessorPil
    layers_class = Gemma4Layers
    decoder_fixed = "its layers share keys and see windows"
    block_parts = BlockParts(
        "input_layernorm",
        "self_attn",
        "pre_feedforward_layernorm",
        "mlp",
        ("post_attention_layernorm", "post_feedforward_layernorm"),
    )
    special_tokens: ClassVar = {
        "image": "<|image|>",
        "video": "<|video|>",
        "audio": "<|audio|>",
        "boi": "<|image>",
        "eoi": "<image|>",
    }
    thought_marks: ClassVar = ("<|channel>", "<channel|>")
    markers: ClassVar = {"image": "<|image|>", "video": "<|video|>"}

    @classmethod
    def tokenizer_folder(cls) -> str:
        return "gemma-4"

    def bind(self) -> None:
        config = self.model.config
        if self.text_config.use_bidirectional_attention == "all":
            raise ModelError("a decoder in which all tokens see one another is not supported")
        if self.model.model.vision_tower is None:
            raise ModelError("this checkpoint has no vision tower: give one that takes images")
        if config._attn_implementation not in ("sdpa", "eager"):
            raise ModelError(f"{self.name} has windows, which this back end is not given: give --attn sdpa")
        vision = config.vision_config
        self.patch, self.side = vision.patch_size, vision.pooling_kernel_size
        self.patches_per_token = self.side**2
        tower, family = self.model.model.vision_tower, self
        stock = stock_forward(tower)

        def forward(self, pixel_values, pixel_position_ids=None, *args, run=None, **kwargs):
            if run is None:
                return stock(pixel_values, pixel_position_ids, *args, **kwargs)
            padding = torch.zeros(pixel_position_ids.shape[:2], dtype=torch.bool, device=run.device)
            h = self.patch_embedder(pixel_values, pixel_position_ids, padding)  # (S, N * 9, C)
            rope = self.encoder.rotary_emb(h, pixel_position_ids)
            run.tokens = replace(run.tokens, rope=tuple(x.unflatten(1, (-1, run.group)) for x in rope))
            h = run_blocks(self.encoder.layers, family.block_parts, h, run, block_arguments)
            return family.pooled(self, h.unflatten(1, (-1, run.group)))

        bind(tower, forward)

    def pooled(self, tower: nn.Module, cells: Tensor) -> Tensor:
        """The patches of each cell (S, M, 9, C) as one token (S, M, C), scaled and standardised."""
        wide = accumulation_dtype(cells.dtype)
        pooled = cells.to(wide).mean(2).to(cells.dtype).to(wide) * tower.pooler.root_hidden_size
        if tower.config.standardize:
            pooled = (pooled - tower.std_bias.to(wide)) * tower.std_scale.to(wide)
        return pooled.to(cells.dtype)

    @property
    def tower_layers(self) -> int:
        return self.model.config.vision_config.num_hidden_layers

    def tower_blocks(self) -> Iterable[nn.Module]:
        return self.model.model.vision_tower.encoder.layers

    def bytes_per_token(self) -> int:
        config = self.model.config.vision_config
        width = 8 * config.hidden_size + 3 * config.intermediate_size
        return width * self.patches_per_token * self.model.dtype.itemsize

    # --- pixels -------------------------------------------------------------------------------

    def geometry(
        self,
        kind: str,
        size: tuple[int, int],
        frames: int = 1,
        options: MediaOptions = MediaOptions(),
        alone: bool = True,
    ) -> Geometry:
        if kind == "video":
            return self._geometry(kind, self.frame_size(size, frames, options), frames)
        if options.max_tiles is not None:
            raise UsageError(f"--max-tiles is for models with tiles: {self.name} has none")
        return self._geometry(kind, self._resized(size, self.budget("image", options)), 1)

    def _geometry(self, kind: str, size: tuple[int, int], frames: int) -> Geometry:
        """Of a medium that is resized."""
        grid = tuple(extent // self.patch for extent in size)
        video = kind == "video"
        form = PatchGrid((frames, *grid), self.side, 1 if video else None, apart=video)
        return Geometry(kind, form, grid)

    def budget(self, kind: str, options: MediaOptions = MediaOptions()) -> int:
        """The most tokens of an image or frame: the checkpoint's, or the nearest within the bounds on pixels.

        A picture is enlarged or shrunk to about as many pixels as its tokens have.
        """
        own = self.image_processor if kind == "image" else None
        asked = own.max_soft_tokens if own else self.video_settings.get("max_soft_tokens", BUDGETS[0])
        pixels = (self.patch * self.side) ** 2
        if options.min_pixels is not None:
            least = (b for b in BUDGETS if b * pixels >= options.min_pixels)
            asked = max(asked, min(least, default=BUDGETS[-1]))
        if options.max_pixels is not None:
            most = (b for b in BUDGETS if b * pixels <= options.max_pixels)
            asked = min(asked, max(most, default=BUDGETS[0]))
        return asked

    def _resized(self, size: tuple[int, int], budget: int) -> tuple[int, int]:
        """The height and width at which the model takes a picture."""
        return get_aspect_ratio_preserving_size(*size, self.patch, budget * self.side**2, self.side)

    def preprocess_image(self, image: Image.Image, options: MediaOptions, alone: bool) -> Pixels:
        geometry = self.geometry("image", (image.height, image.width), options=options, alone=alone)
        size = tuple(extent * self.patch for extent in geometry.form.grid[1:])
        return self._filled(geometry, resized(np.asarray(image), size))

    def preprocess_region(
        self, image: Image.Image, whole: tuple[int, int], options: MediaOptions, alone: bool
    ) -> Pixels:
        budget = self._share("image", (image.height, image.width), whole, options)
        height, width = self._resized((image.height, image.width), budget)
        return self._filled(
            self._geometry("image", (height, width), 1), resized(np.asarray(image), (height, width))
        )

    def _filled(self, geometry: Geometry, picture: np.ndarray) -> Pixels:
        rows, columns = geometry.form.groups
        # the processor resizes to some budgets only, and fills patches up to as many
        settings = {"max_soft_tokens": BUDGETS[-1], "do_resize": False}
        batch = self.image_processor([picture], return_tensors="np", **settings)
        made = int(batch["num_soft_tokens_per_image"][0])
        if made != geometry.tokens:
            raise ModelError(f"the image processor made {made} tokens, not {geometry.tokens}")
        patches = np.asarray(batch["pixel_values"])[0, : made * self.side**2]
        cells = patches.reshape(rows, self.side, columns, self.side, -1).swapaxes(1, 2)
        values = torch.from_numpy(cells.reshape(1, len(patches), -1).astype(np.float32))
        return geometry.filled(lambda a, b: values[a:b], lambda n: [picture])

    def resize_region(
        self, frame: np.ndarray, whole: tuple[int, int], frames: int, options: MediaOptions = MediaOptions()
    ) -> np.ndarray:
        budget = self._share("video", frame.shape[:2], whole, options)
        return resized(frame, self._resized(frame.shape[:2], budget))

    def _share(
        self, kind: str, region: tuple[int, int], whole: tuple[int, int], options: MediaOptions
    ) -> int:
        """The most tokens of a region: by itself it would be enlarged to as many as the whole picture."""
        share = math.prod(region) / math.prod(whole)
        return max(1, round(self.budget(kind, options) * share))

    def frame_size(
        self, size: tuple[int, int], frames: int, options: MediaOptions = MediaOptions()
    ) -> tuple[int, int]:
        return self._resized(size, self.budget("video", options))

    def preprocess_video(self, frames: Sequence[np.ndarray]) -> Pixels:
        size = common_size(frames)
        rows, columns = (extent // self.patch // self.side for extent in size)

        def pixel_values(start: int, stop: int) -> Tensor:
            part = torch.from_numpy(stacked(frames, start, stop))
            s, p = self.side, self.patch
            # (T, r, s, p, c, s, p, C) -> cells of s x s patches, each (p, p, C)
            part = part.view(stop - start, rows, s, p, columns, s, p, 3)
            part = part.permute(0, 1, 4, 2, 5, 3, 6, 7).contiguous()
            return normalised(part, self.video_settings, channel=7).view(stop - start, -1, p * p * 3)

        geometry = self._geometry("video", size, len(frames))
        medium = geometry.filled(pixel_values, lambda n: [frames[n]])
        return replace(medium, times=tuple(index / RATE for index in range(len(frames))))

    def marker(self, kind: str, medium: Pixels | Features) -> str:
        """An image within its marks; each frame of a video too, behind its minute and second."""
        begins, ends = self.special_tokens["boi"], self.special_tokens["eoi"]
        shown = f"{begins}{self.placeholders[kind]}{ends}"
        if kind == "image":
            return shown
        times = [medium.times[frame] for frame in medium.shown]
        return " ".join(f"{int(time // 60):02d}:{int(time % 60):02d} {shown}" for time in times)

    # --- tower --------------------------------------------------------------------------------

    def run_tower(self, pixels: Pixels, pixel_values: Tensor, run: TowerPass) -> Tensor:
        places = to_device(patch_places(*pixels.form.groups, self.side), run.device)
        places = places.expand(run.segments, -1, -1)
        pooled = self.model.model.vision_tower(pixel_values, places, run=run)
        return self.model.model.embed_vision(pooled)

    # --- decoder ------------------------------------------------------------------------------

    def embed(self, ids: Tensor) -> Tensor:
        embeds = super().embed(ids)
        if not self.text_model.hidden_size_per_layer_input:
            return embeds
        own = self.text_model.embed_tokens_per_layer(ids)  # of all layers, one after another
        return torch.cat([embeds, own.to(embeds)], dim=-1)

    def fed(self, features: Tensor) -> Tensor:
        """A medium's tokens have the padding token's embeddings in every layer."""
        if not self.text_model.hidden_size_per_layer_input:
            return features
        padding = torch.full((), self.text_config.pad_token_id, device=self.device)
        own = self.text_model.embed_tokens_per_layer(padding).expand(len(features), -1)
        return torch.cat([features, own.to(features)], dim=-1)

    def logits(self, hidden_states: Tensor) -> Tensor:
        logits, cap = super().logits(hidden_states), self.text_config.final_logit_softcapping
        return logits if cap is None else torch.tanh(logits / cap) * cap


def block_arguments(layer: int, tokens: TowerTokens) -> dict[str, Any]:
    """What a block takes beside the hidden states."""
    rope = tuple(x.flatten(1, 2) for x in tokens.rope)
    axes = rope[0][..., :2]  # of its `position_ids` attention reads only how many axes there are
    return {"position_embeddings": rope, "attention_mask": None, "position_ids": axes}


def patch_places(rows: int, columns: int, side: int) -> Tensor:
    """(1, patches, 2) column and row of each patch, cell by cell."""
    y, x = torch.meshgrid(torch.arange(rows * side), torch.arange(columns * side), indexing="ij")
    places = torch.stack([x, y], dim=-1).view(rows, side, columns, side, 2)
    return places.transpose(1, 2).reshape(1, -1, 2)
