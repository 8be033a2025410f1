"""Losses that teach the decoder to compare: two things of a picture, and a place with itself a frame before.

Both are products of two findings, of which an answer's own loss says nothing until both are there: a relation
is the side that is asked about and the order of two places, a blink is a thing that is here and was not.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from illava_cli.evals.world.task import Clip
from tiny.batches import Output, Turn
from tiny.grounding import ANSWER_LAYER, LEAST, MEDIA_LAYER, NAME_LAYER, read
from tiny.referents import SIDES, Place
from tiny.sight import Sight

LEVEL = 0.06  # of the picture: two places that are no further apart along an axis have no order
RARE = 4.0  # weight of what is new in a frame, beside what was there


class Comparing(nn.Module):
    """Readers of a decoder.

    After `ANSWER_LAYER`, where the answer begins: which side the question asks about, and whether the first
    thing it names is left of the second and above it. After `MEDIA_LAYER`, at each token of a clip that shows
    a thing: whether nothing was there a frame before; the first head of that layer looks at that place. The
    second head of the `NAME_LAYER`-th looks from a name at the tokens at which a thing that stays where it is
    comes anew, and at the first token of all as often as at one coming: what it gathers says how often,
    however many frames there are.
    """

    def __init__(self, decoder):
        """
        Args:
            decoder: its configuration.
        """
        super().__init__()
        before, names = (min(layer, decoder.num_hidden_layers) - 1 for layer in (MEDIA_LAYER, NAME_LAYER))
        self.watched = (before, 0), (names, 1)
        self.side = nn.Linear(decoder.hidden_size, len(SIDES))
        self.order = nn.Linear(decoder.hidden_size, 2)
        self.new = nn.Linear(decoder.hidden_size, 1)

    def forward(self, out: Output) -> tuple[Tensor, dict[str, float]]:
        """The loss of one pass, and the share of sides, of orders, of new and of old things that are told
        rightly.
        """
        loss, right = out.logits.new_zeros((), dtype=torch.float32), {}
        sided = [turn for turn in out.turns if turn.side is not None]
        if sided:
            hidden = read(out, ANSWER_LAYER, [(turn.row, turn.begin) for turn in sided])
            side = torch.tensor([turn.side for turn in sided], device=hidden.device)
            logits = self.side(hidden)
            loss = loss + F.cross_entropy(logits, side)
            right["sides"] = (logits.argmax(-1) == side).float().mean().item()
            orders = torch.tensor([order(turn) for turn in sided], device=hidden.device)
            known = ~orders.isnan()
            if known.any():
                logits = self.order(hidden)[known]
                loss = loss + F.binary_cross_entropy_with_logits(logits, orders[known])
                right["order"] = ((logits > 0) == (orders[known] > 0.5)).float().mean().item()
        if out.sight.kind == "frame":
            loss = loss + self._clip_loss(out, right)
        return loss, right

    def _clip_loss(self, out: Output, right: dict[str, float]) -> Tensor:
        size, part = len(out.sight.part), out.sight.part
        same = (out.sight.places[:, None] == out.sight.places[None]).all(-1)
        before = (same & (part[:, None] == part[None] + 1)).to(out.logits.device)
        paid = (out.shown.looks[self.watched[0]][:, :size, :size] * before).sum(-1)[:, before.any(-1)]
        loss = -paid.clamp(min=LEAST).log().mean()
        right["before"] = (-loss).exp().item()
        counted = unlike(out.shown.looks[self.watched[1]], list(comings(out)))
        if counted is not None:
            loss, right["comings"] = loss + counted, (-counted).exp().item()
        new = torch.stack([new_things(stage, out.sight) for stage in out.stages]).to(loss.device)
        known = ~new.isnan()
        places = [(int(row), int(column)) for row, column in known.nonzero()]
        logits = self.new(read(out, MEDIA_LAYER, places))[:, 0]
        for name, wanted in (("new", 1.0), ("old", 0.0)):
            own = new[known] == wanted
            if own.any():
                right[name] = ((logits > 0) == bool(wanted))[own].float().mean().item()
        rare = torch.tensor(RARE, device=logits.device)
        return loss + F.binary_cross_entropy_with_logits(logits, new[known], pos_weight=rare)


def unlike(attention: Tensor, looks: list[tuple[int, int, Tensor]]) -> Tensor | None:
    """Divergence of what a head attends (B, T, T) from what it is to attend; None where there is nothing."""
    losses = []
    for row, place, wanted in looks:
        wanted = wanted.to(attention.device)
        seen = wanted > 0
        paid = attention[row, place, : len(wanted)][seen].float().clamp(min=LEAST)
        losses.append((wanted[seen] * (wanted[seen] / paid).log()).sum())
    return torch.stack(losses).mean() if losses else None


def comings(out: Output) -> Iterator[tuple[int, int, Tensor]]:
    """Of each name of a thing of a clip that does not move: row and column, and the share (T,) of a look that
    is due to each token.
    """
    for turn in out.turns:
        for one, column in zip(turn.referents, turn.columns, strict=True):
            if one.seen is not None and one.first is not None and one.first == one.last:
                before = zip(one.seen, one.seen[1:], strict=False)
                new = [number for number, (was, comes) in enumerate(before, 1) if comes and not was]
                wanted = sum(
                    out.sight.near(one.first, step).float() for step in {n // out.sight.frames for n in new}
                )
                share = out.sight.near(one.first).sum().float()
                first = torch.eye(1, len(out.sight.part))[0] * share
                yield turn.row, column, (first + wanted) / (first + wanted).sum()


def new_things(clip: Clip, sight: Sight) -> Tensor:
    """(T,) 1 where a thing covers a token's place in a frame and none did in the one before; NaN where no
    thing is.
    """
    covered = torch.zeros(len(clip.frames), len(sight.part), dtype=torch.bool)
    for number, frame in enumerate(clip.frames):
        for thing in frame.things:
            miss = sight.places * torch.tensor([frame.width, frame.height]) - torch.tensor([thing.x, thing.y])
            covered[number] |= miss.norm(dim=-1) <= thing.radius
    fresh = covered.clone()
    fresh[0] = False
    fresh[1:] &= ~covered[:-1]
    told = torch.full((len(sight.part),), float("nan"))
    for token in (sight.part >= 0).nonzero().flatten().tolist():
        frames = slice(int(sight.part[token]) * sight.frames, (int(sight.part[token]) + 1) * sight.frames)
        if covered[frames, token].any():
            told[token] = float(fresh[frames, token].any())
    return told


def order(turn: Turn) -> tuple[float, float]:
    """Whether the first of two things is left of the second, and above it; NaN where that is not clear."""
    places: list[Place | None] = [one.first for one in turn.referents]
    if len(places) != 2 or None in places:
        return float("nan"), float("nan")
    return tuple(float(a < b) if abs(a - b) > LEVEL else float("nan") for a, b in zip(*places, strict=True))
