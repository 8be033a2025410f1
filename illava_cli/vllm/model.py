"""What all our models in vLLM share: a tower of our own before a decoder of vLLM's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from vllm.distributed import get_tensor_model_parallel_world_size, get_tp_group
from vllm.model_executor.models.utils import StageMissingLayer, collect_children, no_init_weights

from illava_cli.config.settings import Config
from illava_cli.models.encoder import encode
from illava_cli.models.media import Features
from illava_cli.models.without_decoder import family_that_sees
from illava_cli.vllm.item import About, as_pixels
from illava_cli.vllm.placing import as_channels, of_channels, offsets
from illava_cli.vllm.version import check_version
from illava_cli.vllm.wishes import Wishes

check_version()


class Merging:
    """Comes before a model of vLLM's in a class's bases.

    The tower, the projector and the layout are ours, whole on each rank: nothing of them is split, so that
    what merges is the same everywhere. Positions of what is left go along with its features, as in vLLM's own
    pruning of videos (EVS, arXiv 2510.14624), whose protocol this uses.
    """

    # protocols of vLLM's, whose own `__init__` would end the chain of those behind it
    supports_mrope = True
    supports_multimodal_pruning = True
    supported_video_pruning_methods = ("evs",)
    supports_encoder_tp_data = False
    supports_tower_connector_lora = False
    supports_mm_device_do_normalize = False

    def __init__(self, *, vllm_config, prefix: str = ""):
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        model = vllm_config.model_config
        device = next(self.language_model.parameters()).device
        config = Config.model_validate_json(self.config.illava)
        self.wishes = Wishes(
            family_that_sees(Path(model.model), device, model.dtype, config.model.schedule), config
        )

    @contextmanager
    def _mark_tower_model(self, vllm_config, modalities, *, targets=None) -> Iterator[None]:
        """vLLM's own tower gets no memory and no weights."""
        missing = no_init_weights(self, lambda one: StageMissingLayer("vision_tower", one), targets=targets)
        with collect_children(self, targets=targets) as names, missing:
            yield
        self._tower_model_names = names

    # --- media ------------------------------------------------------------------------------

    def embed_multimodal(self, **kwargs: object) -> Sequence[Tensor]:
        """(T, C + channels) of each medium; the channels are positions."""
        (kind,) = {name.partition("_")[0] for name in kwargs}
        family, media, schedules = self.wishes.family, [], []
        for values, entered, about in zip(
            *(kwargs[f"{kind}_{name}"] for name in ("values", "entered", "about")), strict=True
        ):
            about = About.unpacked(about)
            asked = self.wishes.of(about.wish)
            pixels = as_pixels(family, values, about, entered, asked.media)
            media.append(pixels)
            schedules.append(asked.rules.schedule(pixels))
        found = []
        for features, schedule in zip(encode(family, media, schedules), schedules, strict=True):
            channels = as_channels(offsets(family, features, schedule), features.embeds)
            found.append(torch.cat([self.decoded(features), channels], dim=1))
        if get_tensor_model_parallel_world_size() > 1:
            # sums of a GPU have no fixed order: in a near tie ranks might keep different tokens
            found = [get_tp_group().broadcast(one.contiguous(), src=0) for one in found]
        return found

    def decoded(self, features: Features) -> Tensor:
        """(T, C) what the decoder is given."""
        return features.embeds

    # --- positions --------------------------------------------------------------------------

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features) -> tuple[Tensor, int]:
        """(3, T) positions; of a medium's tokens that of the first of their run."""
        rows = torch.zeros(3, len(input_tokens), dtype=torch.int64)
        at = index = 0
        for start, stop, advance in media_runs(mm_features):
            rows[:, index:start] = torch.arange(at, at + start - index)
            at += start - index
            rows[:, start:stop] = at
            at += advance
            index = stop
        rows[:, index:] = torch.arange(at, at + len(input_tokens) - index)
        at += len(input_tokens) - index
        return self.marked(rows, mm_features), at - len(input_tokens)

    def marked(self, rows: Tensor, mm_features) -> Tensor:
        """The positions with what tells later where media stand."""
        return rows

    def recompute_mrope_positions(
        self,
        input_ids: list[int] | Tensor,
        multimodal_embeddings: Sequence[Tensor],
        mrope_positions: Tensor,
        num_computed_tokens: int,
    ) -> tuple[Sequence[Tensor], Tensor, int]:
        """Features without their channels, and the positions that these say; asked again, the same."""
        if not len(multimodal_embeddings):
            return [], mrope_positions, _delta(mrope_positions)
        positions = mrope_positions.clone()
        width = 2 * self.wishes.family.rope_axes
        places = of_channels(torch.cat([one[:, -width:] for one in multimodal_embeddings]))
        media, bases = self.media_of(input_ids, positions)
        index = media[num_computed_tokens:].nonzero()[: len(places), 0] + num_computed_tokens
        self.put(positions, index, bases[:, index] + places.T.to(positions.device))
        return [one[:, :-width] for one in multimodal_embeddings], positions, _delta(positions)

    def media_of(self, input_ids: list[int] | Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(T,) which tokens are media's, and (axes, T) the first positions of their runs."""
        raise NotImplementedError

    def put(self, positions: Tensor, index: Tensor, places: Tensor) -> None:
        positions[:, index] = places


def _delta(positions: Tensor) -> int:
    """What the position of the next token is over its number."""
    return int(positions[0, -1]) + 1 - positions.shape[1]


def media_runs(mm_features) -> Iterator[tuple[int, int, int]]:
    """First and last place of each run of media tokens, and the positions that it takes up."""
    for feature in sorted(mm_features, key=lambda one: one.mm_position.offset):
        start, length = feature.mm_position.offset, feature.mm_position.length
        shown = feature.mm_position.is_embed
        shown = torch.ones(length, dtype=torch.bool) if shown is None else torch.as_tensor(shown).cpu()
        edges = torch.nn.functional.pad(shown.int(), (1, 1)).diff().nonzero()[:, 0].tolist()
        advance = feature.data[f"{feature.modality}_advance"].data.tolist()
        for first, last, own in zip(edges[::2], edges[1::2], advance, strict=True):
            yield start + first, start + last, own
