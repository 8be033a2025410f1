"""What a measurement asks of a model family beside what its answers need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from illava_cli.bench.flops import DecoderShape, Projector, TowerShape
from illava_cli.models.family import Family
from illava_cli.models.media import Geometry, Pixels


class StockFamily(ABC):
    """How the unmodified models of a family take media, and how wide their towers are."""

    def __init__(self, family: Family):
        self.family = family
        self.vision_config = family.model.config.vision_config

    @abstractmethod
    def tower_shape(self) -> tuple[TowerShape, Projector]:
        """The widths of tower and projector."""

    @abstractmethod
    def inputs(self, model: nn.Module, media: Sequence[Pixels]) -> dict[str, Tensor]:
        """What the model takes of the media of all rows together, `pixel_values` and so on."""

    @abstractmethod
    def run_vision(self, model: nn.Module, inputs: dict[str, Tensor]) -> None:
        """Run the model's tower and projector alone."""

    def layers_apart(self, shape: DecoderShape) -> dict[int, DecoderShape]:
        """The decoder's layers that are not of its `shape`, by their number."""
        return {}

    def windows(self, geometry: Geometry, layer: int) -> Tensor | None:
        """(tokens,) the window within which each token attends in a tower layer; None: all of its segment."""
        return None
