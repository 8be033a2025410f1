"""Losses that teach the decoder to look: at a question's names, where is what they stand for?

Without them the answers alone teach: of two names, "yes" or "no" says next to nothing about either until both
are found. Linear heads read the decoder's hidden states; they are thrown away after training.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from illava_cli.evals.world.motion import MOST_BLINKS
from illava_cli.evals.world.scene import COLOURS, SHAPES
from illava_cli.evals.world.several import ORDINALS
from tiny.batches import Output
from tiny.referents import Place, Referent

MEDIA_LAYER, NAME_LAYER, ANSWER_LAYER = 2, 3, 4  # after so many layers of the decoder
FRAMES = 16
BINS = 24  # rows and columns that are told apart
PLACES = 4.0  # weight of a place's mean error beside cross-entropies
LEAST = 1e-5  # attention, so that its logarithm is finite
UNKNOWN = float("nan")


class Grounding(nn.Module):
    """Readers of a decoder.

    After `MEDIA_LAYER`, at each visual token: which image or frame it belongs to, and its row and column in
    the whole picture, which the tower, that sees a tile at a time, cannot know. After `NAME_LAYER`, at the
    last token of a name: whether it is there, its place, colour, shape, image, and how often it is hidden.
    After `ANSWER_LAYER`, where the answer begins: the places of the first two names, and of
    what is the answer; that one as row and column too, the form in which visual tokens know theirs.

    The first head of the `NAME_LAYER`-th layer is to look from a name at what it stands for, that of the
    layer after `ANSWER_LAYER` from where the answer begins at where it can be read off.
    """

    def __init__(self, decoder):
        """
        Args:
            decoder: its configuration.
        """
        super().__init__()
        width, layers = decoder.hidden_size, decoder.num_hidden_layers
        self.watched = (min(NAME_LAYER, layers) - 1, 0), (min(ANSWER_LAYER, layers - 1), 0)
        self.media = nn.ModuleDict(
            {"image": nn.Linear(width, len(ORDINALS)), "frame": nn.Linear(width, FRAMES)}
        )
        counts = {"there": 2, "colour": len(COLOURS), "shape": len(SHAPES), "image": len(ORDINALS)}
        counts["hidden"] = 1 + MOST_BLINKS
        self.name = nn.ModuleDict({name: nn.Linear(width, count) for name, count in counts.items()})
        self.places = nn.Linear(width, 4)
        self.bins = nn.ModuleDict({what: nn.Linear(width, 2 * BINS) for what in ("media", "name", "answer")})
        self.answer = nn.Linear(width, 6)

    def forward(self, out: Output) -> tuple[Tensor, dict[str, float]]:
        """The loss of one pass, and what share of names are found within a tenth of the picture, and what
        attention the heads that are to look pay (geometric means).
        """
        loss, found = self._media_loss(out) + self._answer_loss(out), {}
        named, answered = list(_names(out)), [turn for turn in out.turns if turn.evidence]
        looks = [(row, column, out.sight.shows(one)) for row, column, one in named]
        reads = [(turn.row, turn.begin, out.sight.near(turn.evidence)) for turn in answered]
        for name, head, wanted in zip(("looks", "reads"), self.watched, (looks, reads), strict=True):
            missed = unseen(out.shown.looks[head], wanted)
            if missed is not None:
                loss, found[name] = loss + missed, (-missed).exp().item()
        if not named:
            return loss, found
        hidden = read(out, NAME_LAYER, [(row, column) for row, column, _ in named])
        said = [referent for _, _, referent in named]
        for name, head in self.name.items():
            target = torch.tensor([_class(name, referent) for referent in said], device=hidden.device)
            if (target >= 0).any():
                loss = loss + F.cross_entropy(head(hidden), target, ignore_index=-1)
        places = torch.tensor([_pair(r.first) + _pair(r.last) for r in said], device=hidden.device)
        miss = (self.places(hidden) - places).abs()
        known = ~places.isnan().any(-1)
        if known.any():
            loss = loss + PLACES * miss[known].mean()
            loss = loss + binned(self.bins["name"](hidden[known]), places[known][:, :2])
            found["found"] = (miss[known].amax(-1) < 0.1).float().mean().item()
        return loss, found

    def _media_loss(self, out: Output) -> Tensor:
        sight, size = out.sight, len(out.sight.part)
        hidden = after(out, MEDIA_LAYER)[:, :size].float()
        hidden = F.rms_norm(hidden, hidden.shape[-1:])
        placed = ~sight.places[:, 0].isnan()
        places = sight.places[placed].to(hidden.device).expand(len(hidden), -1, -1)
        loss = binned(self.bins["media"](hidden[:, placed]).flatten(0, 1), places.flatten(0, 1))
        if sight.kind is None:
            return loss
        seen = sight.part >= 0
        logits = self.media[sight.kind](hidden[:, seen])
        target = sight.part[seen].to(hidden.device).expand(logits.shape[:2])
        return loss + F.cross_entropy(logits.flatten(0, 1), target.flatten())

    def _answer_loss(self, out: Output) -> Tensor:
        places = torch.tensor(
            [
                [
                    share
                    for place in (*(one.first for one in turn.referents[:2]), None, None)[:2]
                    for share in _pair(place)
                ]
                + [*_pair(turn.evidence)]
                for turn in out.turns
            ],
            device=out.logits.device,
        )
        known = ~places.isnan()
        if not known.any():
            return places.new_zeros(())
        hidden = read(out, ANSWER_LAYER, [(turn.row, turn.begin) for turn in out.turns])
        loss = PLACES * (self.answer(hidden) - places)[known].abs().mean()
        shown = known[:, 4]
        if shown.any():
            loss = loss + binned(self.bins["answer"](hidden[shown]), places[shown][:, 4:])
        return loss


def after(out: Output, layer: int) -> Tensor:
    """(B, T, C) after so many layers, or the last where there are fewer."""
    hidden = out.shown.hidden
    return hidden[min(layer, len(hidden) - 1)]


def read(out: Output, layer: int, places: list[tuple[int, int]]) -> Tensor:
    """(N, C) what stands after so many layers in rows and columns, normed."""
    rows, columns = zip(*places, strict=True)
    hidden = after(out, layer)[list(rows), list(columns)].float()
    return F.rms_norm(hidden, hidden.shape[-1:])


def binned(logits: Tensor, places: Tensor) -> Tensor:
    """Mean cross-entropy of (N, 2 * BINS) against the column and the row of places (N, 2)."""
    target = (places * BINS).long().clamp(0, BINS - 1)
    return F.cross_entropy(logits.unflatten(1, (2, BINS)).flatten(0, 1), target.flatten())


def unseen(attention: Tensor, looks: list[tuple[int, int, Tensor]]) -> Tensor | None:
    """Mean of -log of what a head attends (B, T, T) to what it is to look at; None where that is nothing.

    Args:
        looks: row and place that looks, and which of the row's first tokens (T,) it is to see.
    """
    looks = [look for look in looks if look[2].any()]
    if not looks:
        return None
    rows, places, seen = zip(*looks, strict=True)
    wanted = torch.stack(seen).to(attention.device)
    paid = attention[list(rows), list(places), : wanted.shape[1]]
    return -(paid * wanted).sum(-1).clamp(min=LEAST).log().mean()


def _names(out: Output) -> Iterator[tuple[int, int, Referent]]:
    """Row and column of the last token of each name."""
    for turn in out.turns:
        for referent, column in zip(turn.referents, turn.columns, strict=True):
            yield turn.row, column, referent


def _class(name: str, referent: Referent) -> int:
    """The number of its class; -1 where there is none."""
    if name == "there":
        return int(referent.there)
    if name == "image":
        return -1 if referent.image is None else referent.image
    if name == "hidden":
        return -1 if referent.seen is None else gaps(referent.seen)
    if referent.name is None:
        return -1
    return list(COLOURS).index(referent.name[0]) if name == "colour" else SHAPES.index(referent.name[1])


def gaps(seen: tuple[bool, ...]) -> int:
    """How often something is hidden between two frames that show it."""
    return sum(not now and then for now, then in pairwise(seen[seen.index(True) :]))


def _pair(place: Place | None) -> tuple[float, float]:
    return place or (UNKNOWN, UNKNOWN)
