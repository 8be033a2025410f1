"""From stages of the world to one forward pass of the model, as the program lays it out, and its labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from shown import Head, Media, Pass, Shower
from torch import Tensor

from illava_cli.config.options import MediaOptions
from illava_cli.engine.session import Session
from illava_cli.evals.world.scene import Scene
from illava_cli.evals.world.sheet import Sheet
from illava_cli.evals.world.task import Album, Clip, Question, Stage, Still
from illava_cli.evals.world.task import media as drawn
from tiny.labels import PATCH, seen_labels, stage_labels
from tiny.referents import Place, Referent, evidence, referents, side
from tiny.sight import Sight, Sights

SQUARE = MediaOptions(max_tiles=1)  # of a model with tiles


@dataclass(frozen=True)
class Turn:
    """A question in its place.

    Args:
        row: of the batch.
        begin: the place that predicts the answer's first token.
        referents, columns: what its names stand for, and the place of each name's last token.
        evidence: where in the picture the answer can be read off.
        side: which of `SIDES` it asks about.
    """

    row: int
    begin: int
    referents: list[Referent]
    columns: list[int]
    evidence: Place | None
    side: int | None


@dataclass(frozen=True)
class Output:
    """Of one pass: at the A places that predict a token of an answer.

    Args:
        logits: (A, V).
        stages, media: of each row, as they were shown.
        shown: the pass.
        sight: where the tokens of each row's media lie.
        turns: each question, with the places of its names.
        embedded: (N, C) the embeddings of so many words, each one token.
    """

    logits: Tensor
    stages: list[Stage]
    media: list[Media]
    shown: Pass
    sight: Sight
    turns: list[Turn]
    embedded: Callable[[Sequence[str]], Tensor]

    @property
    def target(self) -> Tensor:
        """(A,) the tokens."""
        return self.shown.batch.target

    @property
    def numbers(self) -> Tensor:
        """(A,) which answer each belongs to, counted over the batch."""
        return self.shown.batch.numbers


@dataclass(frozen=True)
class Example:
    """A stage with its questions. `square`: an image is seen without tiles, as in an album."""

    stage: Stage
    turns: list[Question]
    square: bool = False


class Builder:
    """Makes forward passes of a session's model."""

    def __init__(self, session: Session):
        self.session, self.model, self.family = session, session.model, session.family
        self.shower, self.sights = Shower(session), Sights(session.family)
        self.token = PATCH * round(session.family.patches_per_token**0.5)  # pixels along one

    def forward(
        self, examples: Sequence[Example], *, apart: bool = True, watched: Sequence[Head] = ()
    ) -> Output:
        """One pass over examples whose media have the same shape.

        Args:
            apart, watched: as of `Shower.forward`.
        """
        media = [self.media(example) for example in examples]
        pairs = [(one, example.turns) for one, example in zip(media, examples, strict=True)]
        shown = self.shower.forward(pairs, apart=apart, watched=watched)
        turns = [turn for row, example in enumerate(examples) for turn in self.turns(row, example, shown)]
        logits = self.model.lm_head(shown.last[shown.batch.answered])
        stages = [example.stage for example in examples]
        return Output(
            logits, stages, media, shown, self.sights.of(media[0], shown.where[0]), turns, self.embedded
        )

    def embedded(self, words: Sequence[str]) -> Tensor:
        """(N, C) the embeddings of words, each of which is one token."""
        encode = self.family.tokenizer.encode
        ids = [encode(word, add_special_tokens=False)[0] for word in words]
        return self.model.get_input_embeddings().weight[ids].detach().float()

    def media(self, example: Example) -> Media:
        """What the stage shows, preprocessed."""
        tiled = self.family.has_tiles and example.square
        made = drawn(example.stage)
        videos = [[np.asarray(frame) for frame in video] for video in made.get("videos", ())]
        return self.shower.media(made.get("images", ()), videos, SQUARE if tiled else MediaOptions())

    def turns(self, number: int, example: Example, shown: Pass) -> list[Turn]:
        """The example's questions in their places, in row `number` of a pass."""
        made, row = [], shown.rows[number]
        for (prompt, answer), (start, last) in zip(example.turns, row.begins, strict=True):
            named, ids = referents(example.stage, prompt), row.ids[start : last + 1]
            columns = [start + self.shower.token_at(ids, prompt, one.end) for one in named]
            made.append(
                Turn(number, last, named, columns, evidence(example.stage, prompt, answer), side(prompt))
            )
        return made

    # --- the tower alone ----------------------------------------------------------------------

    def looked_at(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(B, patches, C) the tower's features of square pictures of one size."""
        tiled = SQUARE if self.family.has_tiles else MediaOptions()
        return self.shower.looked_at([self.family.preprocess_image(one, tiled, True) for one in pictures])

    # --- labels -------------------------------------------------------------------------------

    def labels(self, examples: Sequence[Example], out: Output, cell: int) -> dict[str, Tensor]:
        """What lies under each cell (S, N, ...) of all segments of a pass, in its order.

        Args:
            cell: of so many pixels; those that are smaller than a token are ordered as patches are.
        """
        made, whole = [], {}
        for number, slot, segment in out.shown.seen.segments:
            stage, view = examples[number].stage, out.media[number][slot].form.views()[segment]
            part = view.frame if isinstance(stage, Clip) else slot.index
            if (number, part) not in whole:
                whole[number, part] = stage_labels(_scene(stage, part), cell)
            made.append(self.ordered(seen_labels(whole[number, part], view, self.token // cell), cell))
        return {name: torch.stack([one[name] for one in made]).to(self.model.device) for name in made[0]}

    def ordered(self, labels: dict[str, np.ndarray], cell: int) -> dict[str, Tensor]:
        """(rows, columns, ...) of a segment as (N, ...), in the order of its tokens and of their patches."""
        side, found = self.token // cell, {}
        for name, values in labels.items():
            rows, columns = values.shape[:2]
            groups = values.reshape(rows // side, side, columns // side, side, *values.shape[2:])
            found[name] = torch.from_numpy(groups.swapaxes(1, 2).reshape(rows * columns, *values.shape[2:]))
        return found


def _scene(stage: Stage, part: int) -> Scene | Sheet:
    """What a picture or frame shows."""
    match stage:
        case Clip(frames):
            return frames[part]
        case Album(scenes):
            return scenes[part]
        case Still(scene):
            return scene
