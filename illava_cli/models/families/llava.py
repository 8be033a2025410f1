"""What LLaVA-NeXT and LLaVA-OneVision share: a tower over tiles, an MLP projector, and the tiles' layout.

An image is one tile that shows all of it, and tiles of its detail; a row of the tiles' grid ends with a
newline embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from illava_cli.config.options import MediaOptions
from illava_cli.errors import ModelError, UsageError
from illava_cli.models.binding import at_hand, bind, stock_forward
from illava_cli.models.families.tiled import Square, Tiled, Tiles, TileShape
from illava_cli.models.family import IMAGES_ONLY, Family
from illava_cli.models.media import Geometry, Pixels, as_bytes
from illava_cli.models.tower import BlockParts, run_blocks
from illava_cli.models.tower_pass import TowerPass


@dataclass(frozen=True)
class Tower:
    """What differs between the towers.

    Args:
        class_tokens: tokens before the patches; features are taken of the patches only.
        strategy: the `vision_feature_select_strategy` that says so.
        pre_norm: name of the norm between embeddings and blocks, if there is one.
    """

    class_tokens: int
    strategy: str
    pre_norm: str | None = None


# by the `model_type` of a vision config
TOWERS = {
    "siglip_vision_model": Tower(0, "full"),
    "clip_vision_model": Tower(1, "default", "pre_layrnorm"),
}


class Llava(Family):
    """A LLaVA with tiles."""

    block_parts = BlockParts("layer_norm1", "self_attn", "layer_norm2", "mlp")
    has_tiles = True
    max_tiles: float = math.inf  # tiles' worth of cells beyond which the model interpolates

    def bind(self) -> None:
        config = self.model.config
        if not isinstance(config.vision_feature_layer, int):
            raise ModelError("vision_feature_layer is a list: features of several layers are not supported")
        kind = config.vision_config.model_type
        if kind not in TOWERS:
            raise ModelError(f"a {kind} tower is not supported (there are: {', '.join(TOWERS)})")
        parts = TOWERS[kind]
        if config.vision_feature_select_strategy != parts.strategy:
            raise ModelError(
                f"vision_feature_select_strategy {config.vision_feature_select_strategy!r} is not supported "
                f"with a {kind} tower, only {parts.strategy!r}"
            )
        # the LLaVA repository does, and there a Llama begins each run with a prefix space
        self.encodes_apart = hasattr(config, "mm_vision_tower")
        self.class_tokens = parts.class_tokens
        vision = config.vision_config
        self.tile = TileShape(vision.image_size, vision.patch_size, self.max_tiles)
        self.tile_tokens = self.tile.side**2
        tower = self.model.model.vision_tower
        stock, depth, block_parts = stock_forward(tower), self.tower_layers, self.block_parts

        def forward(self, pixel_values, run=None, **kwargs):
            if run is None:
                return stock(pixel_values, **kwargs)
            hidden_states = self.embeddings(pixel_values)
            if parts.pre_norm is not None:
                hidden_states = getattr(self, parts.pre_norm)(hidden_states)
            # blocks after the layer that makes the features are not run
            blocks = self.encoder.layers[:depth]
            hidden_states = run_blocks(
                blocks, block_parts, hidden_states, run, lambda *_: {"attention_mask": None}
            )
            return hidden_states[:, parts.class_tokens :]

        bind(tower, forward)

    @property
    def tower_layers(self) -> int:
        layer = self.model.config.vision_feature_layer
        return layer if layer >= 0 else self.model.config.vision_config.num_hidden_layers + 1 + layer

    def tower_blocks(self) -> Iterable[nn.Module]:
        return self.model.model.vision_tower.encoder.layers[: self.tower_layers]

    def bytes_per_token(self) -> int:
        config = self.model.config.vision_config
        width = 8 * config.hidden_size + 2 * config.intermediate_size
        return width * self.model.dtype.itemsize

    # --- pixels -------------------------------------------------------------------------------

    def geometry(
        self,
        kind: str,
        size: tuple[int, int],
        frames: int = 1,
        options: MediaOptions = MediaOptions(),
        alone: bool = True,
    ) -> Geometry:
        if kind == "image":
            self.refuse_pixels(options)
            pinpoints = self._pinpoints(options, alone)
            form = Tiles(self.tile, size, pinpoints) if pinpoints else Square(self.tile, size)
        else:
            form = self._frames(self.frame_size(size, frames, options), frames)
        return Geometry(kind, form, (kind, self.tile.edge))

    def _frames(self, size: tuple[int, int], frames: int) -> Tiled:
        """The form of a video."""
        raise UsageError(IMAGES_ONLY)

    def preprocess_image(self, image: Image.Image, options: MediaOptions, alone: bool) -> Pixels:
        geometry = self.geometry("image", (image.height, image.width), options=options, alone=alone)
        if isinstance(geometry.form, Tiles):
            values = self._tiles(image, geometry.form.pinpoints)
        else:
            values = self._tiles(self._squared(image), [[self.tile.edge, self.tile.edge]])[:1]
        return geometry.filled(lambda a, b: values[a:b], lambda n: as_bytes(values[n], self.image_processor))

    def preprocess_region(
        self, image: Image.Image, whole: tuple[int, int], options: MediaOptions, alone: bool
    ) -> Pixels:
        """A region has its share of the image's tiles: by itself it would be enlarged to as many."""
        geometry = self.geometry("image", whole, options=options, alone=alone)
        if isinstance(geometry.form, Tiles):
            share = image.width * image.height / (whole[0] * whole[1])
            tiles = max(1, round(share * geometry.segments))
            options = options.model_copy(update={"max_tiles": tiles})
        return self.preprocess_image(image, options, alone)

    def _pinpoints(self, options: MediaOptions, alone: bool) -> list[list[int]]:
        """The resolutions (height, width) that an image may be tiled to; none: it is one padded square."""
        pinpoints = self.model.config.image_grid_pinpoints
        if options.max_tiles is None:
            return pinpoints
        return [p for p in pinpoints if p[0] * p[1] // self.tile.edge**2 < options.max_tiles]

    def _tiles(self, image: Image.Image, pinpoints: list[list[int]]) -> Tensor:
        """(tiles, 3, S, S): the whole image squashed to a tile, and tiles of its detail."""
        batch = self.image_processor(
            [image], image_grid_pinpoints=pinpoints, do_pad=False, return_tensors="np"
        )
        return torch.from_numpy(np.asarray(batch["pixel_values"][0]))

    def _squared(self, image: Image.Image) -> Image.Image:
        """`image` in the middle of a square of the processor's mean colour."""
        edge = max(image.size)
        square = Image.new("RGB", (edge, edge), tuple(int(x * 255) for x in self.image_processor.image_mean))
        square.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
        return square

    # --- tower --------------------------------------------------------------------------------

    def run_tower(self, pixels: Pixels, pixel_values: Tensor, run: TowerPass) -> Tensor:
        hidden_states = self.model.model.vision_tower(pixel_values, run=run)
        return self.model.model.multi_modal_projector(hidden_states)

    def newline(self, like: Tensor) -> Tensor:
        module = self.model.model
        with at_hand(module):
            return module.image_newline.to(like.device, like.dtype)
