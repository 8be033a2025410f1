"""Training passes laid out by the program itself: what a model learns from is what `illava` shows it.

Any family of `illava`, its own preprocessing, tower, layout and positions, with gradients; no merging.
Questions about the same media are turns apart, as `turns.py` has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from turns import Batch, collate, lay_out

from illava_cli.engine import prompt as prompts
from illava_cli.engine.assemble import Row as Parts
from illava_cli.engine.assemble import Shown, assemble
from illava_cli.engine.request import Prepared, Request, Slot
from illava_cli.engine.session import Session
from illava_cli.models.encoder import Encoding, decoder_tokens
from illava_cli.models.media import Features, Pixels
from illava_cli.models.prefill import Prefill
from illava_cli.models.schedule import Schedule

WHOLE = Schedule()  # nothing merges
Turns = Sequence[tuple[str, str]]  # prompts and right answers


@dataclass(frozen=True)
class Pass:
    """One pass over B media with their questions.

    Args:
        batch: ids (0 for what is of a medium), masks and answers.
        hidden: (B, T, C) of the embeddings and of each layer of the decoder.
        last: (B, T, C) after the last norm.
    """

    batch: Batch
    hidden: tuple[Tensor, ...]
    last: Tensor


class Shower:
    """Makes passes of a session's model."""

    def __init__(self, session: Session):
        self.session, self.family, self.model = session, session.family, session.model

    # --- media ------------------------------------------------------------------------------

    def prepared(self, images: Sequence, videos: Sequence = ()) -> Prepared:
        """Media as the program reads them."""
        return self.session.prepare(Request("", tuple(images), tuple(videos)), fresh=True)

    def encoded(self, prepared: Prepared) -> dict[Slot, Features]:
        """Through tower, projector and layout."""
        return {slot: self._features(one.pixels) for slot, one in prepared.slots.items()}

    def _features(self, pixels: Pixels) -> Features:
        (survivors,) = Encoding(self.family, WHOLE, False).apart([pixels])
        return decoder_tokens(self.family, pixels, survivors, WHOLE)

    # --- text -------------------------------------------------------------------------------

    def asked(self, prompt: str, prepared: Prepared) -> tuple[list, list[int]]:
        """The pieces of a first turn up to its last medium, and the ids after that."""
        counts = {kind: sum(slot.kind == kind for slot in prepared.slots) for kind in ("image", "video")}
        message = prompts.user_message(self.family, prompt, counts["image"], counts["video"])
        markers = prompts.markers_of(self.family, prepared.slots)
        pieces = prompts.first_turn(self.family, message, None, markers)
        last = max(place for place, piece in enumerate(pieces) if isinstance(piece, Slot))
        return pieces[: last + 1], [token for piece in pieces[last + 1 :] for token in piece]

    def said(self, answer: str) -> list[int]:
        """The ids of an answer and of its end."""
        return [*prompts.answer_ids(self.family, answer), self.model.generation_config.eos_token_id[0]]

    # --- a pass -----------------------------------------------------------------------------

    def forward(self, media: Sequence[tuple[Prepared, Turns]]) -> Pass:
        """Questions about each of several media."""
        starts, rows = [], []
        for prepared, turns in media:
            encoded = self.encoded(prepared)
            asked = [self.asked(prompt, prepared) for prompt, _ in turns]
            starts.append(self._start(asked[0][0], encoded))
            said = [(ids, self.said(answer)) for (_, ids), (_, answer) in zip(asked, turns, strict=True)]
            rows.append(lay_out([0] * (starts[-1].lengths[0] - 1), said, apart=True))
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
        stacked = torch.stack(positions, dim=1)  # (axes, B, T)
        out = self.model.model.language_model(
            inputs_embeds=embeds,
            attention_mask=batch.mask,
            position_ids=stacked if self.family.rope_axes > 1 else stacked[0],
            use_cache=False,
            output_hidden_states=True,
            **_injected(starts, embeds),
        )
        return Pass(batch, out.hidden_states, out.last_hidden_state)

    def _start(self, pieces: list, encoded: dict[Slot, Features]) -> Prefill:
        """What stands before the questions, and one token of text, at the position at which they begin."""
        parts = [
            Shown(piece.medium, encoded[piece.medium]) if isinstance(piece, Slot) else piece
            for piece in [*pieces, [0]]
        ]
        start, _ = assemble(self.family, [Parts(parts)], {}, packed=False)
        return start


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
