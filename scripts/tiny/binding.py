"""Losses that teach the decoder what belongs together on a page: a number and its row, a bar and its name.

A cell comes after the headings of its row and column, so its tokens can look back at them; a question then
finds the cell by what it asks for. By places alone, compared through three layers, cells stayed at the guess.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from illava_cli.evals.world.pages import STEPS, Chart, Lines, Screen, Table
from illava_cli.evals.world.sheet import Sheet, Text, font
from illava_cli.evals.world.task import Still
from tiny.batches import Output
from tiny.grounding import after, unseen
from tiny.labels import PRINTED
from tiny.sight import Sight

BOUND_LAYER, VALUE_LAYER = 3, 4  # after so many layers of the decoder
HEADINGS = (*PRINTED, *"12345678")  # of a row or a column
SHARP = 0.1  # of products of normed vectors, so that they begin small
LEAST = 0.3  # share of a token that shows a part
Area = tuple[float, float, float, float]  # left, top, right and bottom in pixels


@dataclass(frozen=True)
class Part:
    """A piece of a page.

    Args:
        row, column: what is left of it and above it that it belongs to.
        rank: which word of its line it is.
        value: of the bar whose top or name it is, in steps.
        top: of the bar whose name it is.
    """

    area: Area
    words: str = ""
    row: Part | None = None
    column: Part | None = None
    rank: int | None = None
    value: int | None = None
    top: Part | None = None


@dataclass(frozen=True)
class Told:
    """What one token of a page is to know, and by which of `Binding.readers`."""

    reader: str
    page: int
    token: int
    target: int


class Binding(nn.Module):
    """Readers of a decoder, at the tokens of each part of a page.

    After `BOUND_LAYER`: the headings of its row and its column, which word of a line it is, and at a bar's
    top its value; after `VALUE_LAYER` the value at the bar's name. Two heads of the `BOUND_LAYER`-th layer
    look at the headings, one of the `VALUE_LAYER`-th looks from a bar's name at its top.
    """

    def __init__(self, decoder):
        """
        Args:
            decoder: its configuration.
        """
        super().__init__()
        layers = decoder.num_hidden_layers
        bound, value = (min(layer, layers) - 1 for layer in (BOUND_LAYER, VALUE_LAYER))
        self.looking = {"row": (bound, 1), "column": (bound, 2), "top": (value, 0)}
        self.watched = tuple(self.looking.values())
        width = decoder.hidden_size
        sizes = {"row": width, "column": width, "rank": 3, "value": STEPS, "name": STEPS}
        self.readers = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})

    def forward(self, out: Output) -> tuple[Tensor, dict[str, float]]:
        """The loss of one pass; of each reader the share of right tokens, of each head what it pays."""
        loss, found = out.logits.new_zeros((), dtype=torch.float32), {}
        told, looks = list(tellings(out)), list(lookings(out))
        for name, reader in self.readers.items():
            own = [one for one in told if one.reader == name]
            if own:
                layer = VALUE_LAYER if name == "name" else BOUND_LAYER
                hidden = after(out, layer)[[one.page for one in own], [one.token for one in own]].float()
                logits = reader(F.rms_norm(hidden, hidden.shape[-1:]))
                if name in ("row", "column"):
                    # against the words' own embeddings, so that one way to copy serves all of them
                    words = F.rms_norm(out.embedded(HEADINGS), hidden.shape[-1:])
                    logits = logits @ words.t() * SHARP
                target = torch.tensor([one.target for one in own], device=logits.device)
                loss = loss + F.cross_entropy(logits, target)
                found[name] = (logits.argmax(-1) == target).float().mean().item()
        for name, head in self.looking.items():
            wanted = [(page, token, seen) for of, page, token, seen in looks if of == name]
            if wanted:
                missed = unseen(out.shown.looks[head], wanted)
                loss, found[f"{name} looks"] = loss + missed, (-missed).exp().item()
        return loss, found


def tellings(out: Output) -> Iterator[Told]:
    """What the tokens of a pass's pages are to know."""
    for page, part, token, seen in _placed(out):
        for name in ("row", "column"):
            if name in seen:
                yield Told(name, page, token, HEADINGS.index(getattr(part, name).words))
        if part.rank is not None:
            yield Told("rank", page, token, part.rank)
        if part.value is not None:
            yield Told("value" if part.top is None else "name", page, token, part.value - 1)


def lookings(out: Output) -> Iterator[tuple[str, int, int, Tensor]]:
    """Of the tokens of a pass's pages what each is to look at: `Binding.looking`, page, token and (T,)."""
    for page, _, token, seen in _placed(out):
        for name, tokens in seen.items():
            yield name, page, token, tokens


def _placed(out: Output) -> Iterator[tuple[int, Part, int, dict[str, Tensor]]]:
    """Of each token that shows a part: page, part, token, and the tokens (T,) of what the part belongs to, as
    far as they come before it.
    """
    for page, stage in enumerate(out.stages):
        if not (isinstance(stage, Still) and isinstance(stage.scene, Sheet)):
            continue
        size, found = (stage.scene.width, stage.scene.height), parts(stage.scene)
        for part, tokens in zip(found, owned(out.sight, found, size), strict=True):
            others = {name: getattr(part, name) for name in ("row", "column", "top")}
            shown = {n: inside(out.sight, other.area, size) for n, other in others.items() if other}
            for token in tokens:
                yield page, part, token, {n: seen for n, seen in shown.items() if seen[: token + 1].any()}


def inside(sight: Sight, area: Area, size: tuple[int, int]) -> Tensor:
    """(T,) which tokens show an area of a page of that size: `LEAST` of them, or the most where none does."""
    shares = _shares(sight, area, size)
    return (shares > 0) & (shares >= min(LEAST, shares.max().item()))


def _shares(sight: Sight, area: Area, size: tuple[int, int]) -> Tensor:
    """(T,) the share of each token that an area covers."""
    scale, step = torch.tensor([*size], dtype=torch.float32), torch.tensor(sight.step)
    low, high = torch.tensor(area[:2]) / scale, torch.tensor(area[2:]) / scale
    both = torch.minimum(sight.places + step / 2, high) - torch.maximum(sight.places - step / 2, low)
    return (both.clamp(min=0) / step).prod(-1).nan_to_num(0.0)


def owned(sight: Sight, page: list[Part], size: tuple[int, int]) -> list[list[int]]:
    """Of each part the tokens that show it; one that shows several is of that which covers most of it."""
    shares = torch.stack([_shares(sight, part.area, size) for part in page])
    shown = torch.stack([inside(sight, part.area, size) for part in page])
    most = shares.masked_fill(~shown, -1).argmax(0)
    return [(shown[i] & (most == i)).nonzero().flatten().tolist() for i in range(len(page))]


def parts(sheet: Sheet) -> list[Part]:
    """Those of a page that belong to another one, or whose value is asked for."""
    match sheet.content:
        case Lines(lines):
            _, *texts = sheet.texts
            numbers = [Part(text.box, text.words) for text in texts[::2]]
            pairs = zip(texts[1::2], numbers, lines, strict=True)
            return [_word(text, i, words, number) for text, number, words in pairs for i in range(len(words))]
        case Table(rows, columns):
            _, *texts = sheet.texts
            tops = [Part(text.box, text.words) for text in texts[: len(columns)]]
            rest, wide = texts[len(columns) :], len(columns) + 1
            starts = [Part(text.box, text.words) for text in rest[::wide]]
            return [
                Part(rest[wide * r + 1 + c].box, row=starts[r], column=tops[c])
                for r in range(len(rows))
                for c in range(len(columns))
            ]
        case Screen(fields, buttons):
            _, *texts = sheet.texts
            named = texts[: 2 * len(fields)]
            values = [
                Part(value.box, row=Part(label.box, label.words))
                for label, value in zip(named[::2], named[1::2], strict=True)
            ]
            wide, made = len(buttons[0]), []
            for number, text in enumerate(texts[2 * len(fields) :]):
                left = made[-1] if number % wide else None
                above = made[number - wide] if number >= wide else None
                made.append(Part(text.box, text.words, left, above))
            return values + made
        case Chart(bars):
            labels = sheet.texts[-len(bars) :]
            boxes = sheet.boxes[-1 - len(bars) : -1]
            tops = [
                Part((box.left, box.top - 2, box.right, box.top + 2), value=value // 10)
                for box, value in zip(boxes, bars.values(), strict=True)
            ]
            return tops + [
                Part(text.box, text.words, value=top.value, top=top)
                for text, top in zip(labels, tops, strict=True)
            ]
    raise TypeError(f"no such page: {type(sheet.content).__name__}")


def _word(text: Text, number: int, words: tuple[str, ...], line: Part) -> Part:
    """One of a line's words."""
    left, top, _, bottom = text.box
    start = left + font(text.size).getlength("  ".join([*words[:number], ""]))
    end = start + font(text.size).getlength(words[number])
    return Part((start, top, end, bottom), words[number], row=line, rank=number)
