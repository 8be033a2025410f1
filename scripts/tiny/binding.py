"""Losses that teach the decoder what belongs together on a page: a number and its row, a bar and its name.

A cell comes after the heads of its row and column, so its tokens can look back at them; a question then finds
the cell by what it asks for. By places alone, compared through three layers, cells stayed at the guess.
"""

from __future__ import annotations

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
HEADS = (*PRINTED, *"12345678")  # what heads a row or a column
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


class Binding(nn.Module):
    """Readers of a decoder: after `BOUND_LAYER`, at the tokens of each part of a page, what heads its row and
    its column, which word of a line it is, and the value of a bar at its top; after `VALUE_LAYER` the value
    at the bar's name. Heads of the layer before look at what heads a row, at what heads a column, and from a
    bar's name at its top.
    """

    def __init__(self, decoder):
        """
        Args:
            decoder: its configuration.
        """
        super().__init__()
        width, layers = decoder.hidden_size, decoder.num_hidden_layers
        bound, value = (min(layer, layers) - 1 for layer in (BOUND_LAYER, VALUE_LAYER))
        self.looking = {"row": (bound, 1), "column": (bound, 2), "top": (value, 0)}
        self.watched = tuple(self.looking.values())
        self.heads = nn.ModuleDict({name: nn.Linear(width, len(HEADS)) for name in ("row", "column")})
        self.rank = nn.Linear(width, 3)
        self.value = nn.Linear(width, STEPS)

    def forward(self, out: Output) -> tuple[Tensor, dict[str, float]]:
        """The loss of one pass, and the share of tokens whose heads are told rightly."""
        loss, right = out.logits.new_zeros((), dtype=torch.float32), {}
        pages = [
            (row, parts(stage.scene))
            for row, stage in enumerate(out.stages)
            if isinstance(stage, Still) and isinstance(stage.scene, Sheet)
        ]
        if not pages:
            return loss, right
        classes: dict[str, list[tuple[int, int, int]]] = {name: [] for name in ("row", "column", "rank")}
        values: dict[int, list[tuple[int, int, int]]] = {BOUND_LAYER: [], VALUE_LAYER: []}
        looks: dict[str, list[tuple[int, int, Tensor]]] = {name: [] for name in self.looking}
        for row, page in pages:
            size = out.stages[row].scene.width, out.stages[row].scene.height
            for part, places in zip(page, owned(out.sight, page, size), strict=True):
                for name in ("row", "column"):
                    if (head := getattr(part, name)) is not None:
                        classes[name] += [(row, place, HEADS.index(head.words)) for place in places]
                        seen = inside(out.sight, head.area, size)
                        looks[name] += [(row, place, seen) for place in places]
                if part.rank is not None:
                    classes["rank"] += [(row, place, part.rank) for place in places]
                if part.value is not None:
                    layer = BOUND_LAYER if part.top is None else VALUE_LAYER
                    values[layer] += [(row, place, part.value - 1) for place in places]
                if part.top is not None:
                    looks["top"] += [(row, p, inside(out.sight, part.top.area, size)) for p in places]
        told = [(name, BOUND_LAYER, reader, classes[name]) for name, reader in self.heads.items()]
        told.append(("rank", BOUND_LAYER, self.rank, classes["rank"]))
        told += [(f"value {layer}", layer, self.value, found) for layer, found in values.items()]
        for name, layer, reader, found in told:
            if found:
                rows, places, target = (list(values) for values in zip(*found, strict=True))
                hidden = after(out, layer)[rows, places].float()
                logits = reader(F.rms_norm(hidden, hidden.shape[-1:]))
                target = torch.tensor(target, device=logits.device)
                loss = loss + F.cross_entropy(logits, target)
                right[name] = (logits.argmax(-1) == target).float().mean().item()
        for name, head in self.looking.items():
            missed = unseen(out.shown.looks[head], looks[name])
            if missed is not None:
                loss, right[f"{name} looks"] = loss + missed, (-missed).exp().item()
        return loss, right


def inside(sight: Sight, area: Area, size: tuple[int, int]) -> Tensor:
    """(T,) which tokens touch an area of a page of that size."""
    width, height = size
    step = torch.tensor(sight.step) / 2
    start = torch.tensor([area[0] / width, area[1] / height]) - step
    end = torch.tensor([area[2] / width, area[3] / height]) + step
    return ((sight.places >= start) & (sight.places <= end)).all(-1)


def owned(sight: Sight, page: list[Part], size: tuple[int, int]) -> list[list[int]]:
    """Of each part the tokens that show it; one that touches several is that of the nearest."""
    touched = torch.stack([inside(sight, part.area, size) for part in page])
    scale = torch.tensor(size, dtype=torch.float32)
    low, high = (torch.tensor([part.area[end : end + 2] for part in page]) / scale for end in (0, 2))
    miss = (sight.places[None] - (low + high)[:, None] / 2).abs()  # (parts, T, 2)
    miss[..., 0] = (miss[..., 0] - (high - low)[:, None, 0] / 2).clamp(min=0)
    nearest = miss.sum(-1).masked_fill(~touched, torch.inf).argmin(0)
    own = touched & (nearest[None] == torch.arange(len(page))[:, None])
    return [one.nonzero().flatten().tolist() for one in own]


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
            heads = [Part(text.box, text.words) for text in rest[::wide]]
            return [
                Part(rest[wide * r + 1 + c].box, row=heads[r], column=tops[c])
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


def _word(text: Text, number: int, words: tuple[str, ...], head: Part) -> Part:
    """One of a line's words."""
    left, top, _, bottom = text.box
    start = left + font(text.size).getlength("  ".join([*words[:number], ""]))
    end = start + font(text.size).getlength(words[number])
    return Part((start, top, end, bottom), words[number], row=head, rank=number)
