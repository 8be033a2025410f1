"""Training passes laid out by the program itself: what a model learns from is what `illava` shows it.

Any family of `illava`, its own preprocessing, tower, layout and positions, with gradients; no merging.
Questions about the same media are turns apart, or one chat, as `turns.py` has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from turns import Batch, Row, collate, lay_out, mask_for

from illava_cli.config.options import MediaOptions
from illava_cli.engine import prompt as prompts
from illava_cli.engine.assemble import Row as Parts
from illava_cli.engine.assemble import Shown, assemble
from illava_cli.engine.request import Encoded, Slot
from illava_cli.engine.session import Session
from illava_cli.models.encoder import Encoding, decoder_tokens
from illava_cli.models.family import Family
from illava_cli.models.media import Features, Pixels
from illava_cli.models.prefill import Prefill
from illava_cli.models.schedule import Schedule
from illava_cli.models.tower_pass import TowerPass

WHOLE = Schedule()  # nothing merges
PROJECTORS = {
    "llava_next": "multi_modal_projector",
    "llava_onevision": "multi_modal_projector",
    "qwen2_vl": "visual.merger",
    "qwen3_vl": "visual.merger",
}
Turns = Sequence[tuple[str, str]]  # prompts and right answers
Media = Mapping[Slot, Pixels]
Head = tuple[int, int]  # layer of the decoder, and number


@dataclass
class Seen:
    """Features of all segments of a pass, in the order in which they went through the tower.

    Args:
        segments: of each the number of its turn, its medium, and which segment of that it is.
        through: what went through the projector, and what came out, pass by pass.
    """

    segments: list[tuple[int, Slot, int]] = field(default_factory=list)
    through: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def tower(self) -> Tensor:
        """(S, patches, C) of the tower's last layer, of segments of one shape; patches that make a token are
        neighbours.
        """
        return self._joined(0)

    @property
    def projected(self) -> Tensor:
        """(S, tokens, C), of segments of one shape."""
        return self._joined(1)

    def _joined(self, side: int) -> Tensor:
        parts = [pair[side].flatten(0, -2) for pair in self.through]
        return torch.cat(parts).unflatten(0, (len(self.segments), -1))


@dataclass(frozen=True)
class Pass:
    """One pass over B media with their questions.

    Args:
        rows: how each was laid out.
        batch: ids (0 for what is of a medium), masks and answers.
        where: of each, where its media's tokens stand.
        positions: (B, T) or (axes, B, T).
        hidden: (B, T, C) of the embeddings and of each layer of the decoder.
        looks: of each head that was watched (B, T, T), what it attends to.
        last: (B, T, C) after the last norm.
    """

    rows: list[Row]
    batch: Batch
    where: list[dict[Slot, Tensor]]
    seen: Seen
    positions: Tensor
    hidden: tuple[Tensor, ...]
    looks: dict[Head, Tensor]
    last: Tensor


class Remembering:
    """A family whose media have the tower's features in place of their pixels."""

    def __init__(self, family: Family, projector: nn.Module):
        self._family, self._projector = family, projector

    def __getattr__(self, name: str):
        return getattr(self._family, name)

    def run_tower(self, pixels: Pixels, pixel_values: Tensor, run: TowerPass) -> Tensor:
        return self._projector(pixel_values)


class Shower:
    """Makes passes of a session's model."""

    def __init__(self, session: Session, *, remembering: bool = False):
        """
        Args:
            remembering: media have features for pixels.
        """
        self.family, self.model = session.family, session.model
        self.projector = self.model.model.get_submodule(PROJECTORS[self.family.key])
        self.seeing = Remembering(self.family, self.projector) if remembering else self.family
        self._asked: dict[tuple, list[int]] = {}
        self._texts: dict[tuple[int, ...], list[str]] = {}

    # --- media ------------------------------------------------------------------------------

    def media(
        self, images: Sequence = (), videos: Sequence = (), options: MediaOptions = MediaOptions()
    ) -> Media:
        """A turn's media as the program preprocesses them: RGB images, videos of frames (H, W, 3) uint8."""
        family, alone = self.family, options.tiles(len(images))
        pixels = {
            Slot("image", n): family.preprocess_image(image, options, alone) for n, image in enumerate(images)
        }
        for number, frames in enumerate(videos):
            sized = [family.resize_frame(frame, len(frames), options) for frame in frames]
            pixels[Slot("video", number)] = family.preprocess_video(sized)
        return pixels

    def encoded(self, media: Sequence[Media]) -> tuple[list[dict[Slot, Features]], Seen]:
        """Through tower, projector and layout; segments of one shape share passes."""
        alike: dict[tuple, list[tuple[int, Slot]]] = {}
        for number, slots in enumerate(media):
            for slot, pixels in slots.items():
                alike.setdefault(pixels.shape, []).append((number, slot))
        found: list[dict[Slot, Features]] = [{} for _ in media]
        with self._watched() as seen:
            for places in alike.values():
                group = [media[number][slot] for number, slot in places]
                apart = Encoding(self.seeing, WHOLE, False).apart(group)
                for (number, slot), pixels, survivors in zip(places, group, apart, strict=True):
                    found[number][slot] = decoder_tokens(self.family, pixels, survivors, WHOLE)
                    seen.segments += [(number, slot, segment) for segment in pixels.shown]
        return found, seen

    def looked_at(self, pixels: Sequence[Pixels]) -> Tensor:
        """(S, patches, C) the tower's features of media of one shape."""
        return self.encoded([{Slot("image", 0): one} for one in pixels])[1].tower

    @contextmanager
    def _watched(self) -> Iterator[Seen]:
        """What goes through the projector meanwhile."""
        seen = Seen()
        hook = self.projector.register_forward_hook(
            lambda _, given, made: seen.through.append((given[0], made))
        )
        try:
            yield seen
        finally:
            hook.remove()

    # --- text -------------------------------------------------------------------------------

    def before(self, prompt: str, media: Media) -> list:
        """The pieces of a first turn up to its last medium."""
        return self._cut(prompt, media)[0]

    def asked(self, prompt: str, media: Media) -> list[int]:
        """The ids of a first turn after its last medium."""
        key = (prompt, *sorted(slot.kind for slot in media))
        if key not in self._asked:
            self._asked[key] = [token for piece in self._cut(prompt, media)[1] for token in piece]
        return self._asked[key]

    def _cut(self, prompt: str, media: Media) -> tuple[list, list]:
        counts = [sum(slot.kind == kind for slot in media) for kind in ("image", "video")]
        message = prompts.user_message(self.family, prompt, *counts)
        encoded = {slot: Encoded("", pixels) for slot, pixels in media.items()}
        pieces = prompts.first_turn(self.family, message, None, prompts.markers_of(self.family, encoded))
        last = max(place for place, piece in enumerate(pieces) if isinstance(piece, Slot))
        return pieces[: last + 1], pieces[last + 1 :]

    def token_at(self, ids: Sequence[int], prompt: str, end: int) -> int:
        """Which of the ids of a turn completes the first `end` characters of its prompt."""
        key = tuple(ids)
        if key not in self._texts:
            decode = self.family.tokenizer.decode
            self._texts[key] = [decode(ids[: number + 1]) for number in range(len(ids))]
        return next(number for number, text in enumerate(self._texts[key]) if prompt[:end] in text)

    def asked_later(self, prompt: str) -> list[int]:
        """The ids of a later turn of a chat, after the last answer and its end."""
        message = prompts.user_message(self.family, prompt, 0, 0)
        nothing = {kind: [] for kind in self.family.markers}
        pieces = prompts.later_turn(self.family, message, self._end, nothing)
        return [token for piece in pieces for token in piece]

    def said(self, answer: str) -> list[int]:
        """The ids of an answer and of its end."""
        return [*prompts.answer_ids(self.family, answer), self._end]

    @property
    def _end(self) -> int:
        end = self.model.generation_config.eos_token_id
        return end[0] if isinstance(end, list) else end

    # --- a pass -----------------------------------------------------------------------------

    def forward(
        self, shown: Sequence[tuple[Media, Turns]], *, apart: bool = True, watched: Sequence[Head] = ()
    ) -> Pass:
        """Questions about each of several media.

        Args:
            apart: no turn sees another one.
            watched: heads of the decoder.
        """
        encoded, seen = self.encoded([media for media, _ in shown])
        starts, rows, where = [], [], []
        for (media, turns), features in zip(shown, encoded, strict=True):
            asked = [
                self.asked(prompt, media) if apart or number == 0 else self.asked_later(prompt)
                for number, (prompt, _) in enumerate(turns)
            ]
            start, at = self._start(self.before(turns[0][0], media), features)
            said = [(ids, self.said(answer)) for ids, (_, answer) in zip(asked, turns, strict=True)]
            starts.append(start)
            where.append(at)
            rows.append(lay_out([0] * (start.lengths[0] - 1), said, apart))
        batch = collate(rows, self.family.device)
        embeds, positions = self.family.embed(batch.ids), []
        for number, start in enumerate(starts):
            own = start.lengths[0] - 1
            index = torch.tensor(number, device=embeds.device), torch.arange(own, device=embeds.device)
            embeds = embeds.index_put(index, start.embeds[0, :-1].to(embeds.dtype))
            places = start.position_ids.reshape(-1, own + 1)
            # text after the media goes on from where they end, on all axes
            text = batch.positions[number, own:] - own + places[:, -1:]
            positions.append(torch.cat([places[:, :-1], text], dim=1))
        places = torch.stack(positions, dim=1)  # (axes, B, T)
        places = places if self.family.rope_axes > 1 else places[0]
        with self._looking(watched, batch.mask) as looks:
            out = self.model.model.language_model(
                inputs_embeds=embeds,
                attention_mask=mask_for(self.model, batch.mask, embeds.dtype),
                position_ids=places,
                use_cache=False,
                output_hidden_states=True,
                **_injected(starts, embeds),
            )
        return Pass(rows, batch, where, seen, places, out.hidden_states, looks, out.last_hidden_state)

    @contextmanager
    def _looking(self, heads: Sequence[Head], mask: Tensor) -> Iterator[dict[Head, Tensor]]:
        """What heads attend to meanwhile."""

        def measure(query: Tensor, key: Tensor, scaling: float, numbers: list[int]) -> Tensor:
            shared = [number * key.shape[1] // query.shape[1] for number in numbers]
            products = query[:, numbers] @ key[:, shared].transpose(-1, -2) * scaling
            return products.float().masked_fill(~mask, -torch.inf).softmax(-1)

        looks: dict[Head, Tensor] = {}
        by_layer = {layer: [n for one, n in heads if one == layer] for layer, _ in heads}
        layers = self.model.model.language_model.layers
        with ExitStack() as stack:
            for layer, numbers in by_layer.items():
                scorer = lambda query, key, scaling, _, of=numbers: measure(query, key, scaling, of)  # noqa: E731
                stack.enter_context(layers[layer].self_attn.tap.recording(scorer))
            yield looks
            for layer, numbers in by_layer.items():
                scores = layers[layer].self_attn.tap.scores
                looks.update({(layer, number): scores[:, i] for i, number in enumerate(numbers)})

    def _start(self, pieces: list, encoded: dict[Slot, Features]) -> tuple[Prefill, dict[Slot, Tensor]]:
        """What stands before the questions, and one token of text, at the position at which they begin."""
        parts = [
            Shown(piece.medium, encoded[piece.medium]) if isinstance(piece, Slot) else piece
            for piece in [*pieces, [0]]
        ]
        start, [where] = assemble(self.family, [Parts(parts)], {}, packed=False)
        return start, where


def _injected(starts: Sequence[Prefill], embeds: Tensor) -> dict:
    """What a Qwen3-VL adds to its first layers, as `transformers` takes it."""
    layers = sorted({layer for start in starts for layer in start.injections})
    if not layers:
        return {}
    seen, added = torch.zeros(embeds.shape[:2], dtype=torch.bool, device=embeds.device), []
    for number, start in enumerate(starts):
        seen[number, : start.lengths[0] - 1] = True
    for layer in layers:
        added.append(torch.cat([start.injections[layer][0, :-1] for start in starts]))
    return {"visual_pos_masks": seen, "deepstack_visual_embeds": added}
