"""From stages of the world to one forward pass of the model: pixels, the layout of tokens, and labels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from types import SimpleNamespace

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration
from turns import Row, collate, lay_out

from illava_cli.evals.world.render import draw
from illava_cli.evals.world.scene import Scene
from illava_cli.evals.world.sheet import Sheet
from illava_cli.evals.world.task import Album, Clip, Question, Stage, Still, picture
from tiny.checkpoint import PATCH, TILE
from tiny.labels import crop, dense_labels, nothing_known, stage_labels
from tiny.referents import Place, Referent, evidence, referents
from tiny.sight import SIDE, Sight, sight


@dataclass(frozen=True)
class Output:
    """Of one pass: at the A places that predict a token of an answer.

    Args:
        logits: (A, V).
        target: (A,) the tokens.
        numbers: (A,) which answer each belongs to, counted over the batch.
        hidden: (B, T, C) of the embeddings and of each layer of the decoder.
        attentions: (B, H, T, T) of each layer of the decoder.
        media_start: the place of the first visual token.
        sight: where the visual tokens lie.
        turns: each question, with the places of its names.
        tower, projected: features (S, N, C) of all tiles, in the order of `patch_labels`.
    """

    logits: Tensor
    target: Tensor
    numbers: Tensor
    hidden: tuple[Tensor, ...]
    attentions: tuple[Tensor, ...]
    media_start: int
    sight: Sight
    turns: list[Turn]
    tower: Tensor
    projected: Tensor


@dataclass(frozen=True)
class Turn:
    """A question in its place.

    Args:
        row: of the batch.
        begin: the place that predicts the answer's first token.
        referents, columns: what its names stand for, and the place of each name's last token.
        evidence: where in the picture the answer stands, if it is text.
    """

    row: int
    begin: int
    referents: list[Referent]
    columns: list[int]
    evidence: Place | None


@dataclass(frozen=True)
class Example:
    """A stage with its questions. `square`: the image is seen as in an album, without tiles."""

    stage: Stage
    turns: list[Question]
    square: bool = False
    tasks: tuple[str, ...] = ()


def pixel_values(scenes: list[Scene]) -> Tensor:
    """(B, 3, TILE, TILE) as the processor makes them: each scene fills one tile."""
    pixels = np.stack(
        [np.asarray(draw(scene, TILE) if scene.width == scene.height else squash(scene)) for scene in scenes]
    )
    return normalised(pixels)


def squash(scene: Scene):
    """The whole picture in one tile; the processor resizes without regard to aspect."""
    return draw(scene).resize((TILE, TILE), 3)


def normalised(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def tiles(scene: Scene | Sheet) -> Tensor:
    """(1 + tiles, 3, TILE, TILE): the whole picture, then its tiles row by row, as the processor does."""
    image = picture(scene)
    whole = image if image.size == (TILE, TILE) else image.resize((TILE, TILE), 3)
    pixels = np.asarray(image).reshape(scene.height // TILE, TILE, scene.width // TILE, TILE, 3)
    pixels = pixels.transpose(0, 2, 1, 3, 4).reshape(-1, TILE, TILE, 3)
    return normalised(np.concatenate([np.asarray(whole)[None], pixels]))


def _tiles_of(stage: Stage) -> tuple[Scene, ...]:
    """The scenes that are one tile each; none for a large picture."""
    match stage:
        case Clip(frames):
            return frames
        case Album(scenes):
            return scenes
        case Still(scene):
            return (scene,) if scene.width == scene.height == TILE else ()


def patch_labels(examples: list[Example]) -> dict[str, np.ndarray]:
    """What lies under each patch (S, N, ...) of each tile of the examples, in the order in which the tower
    sees them.
    """
    made = [labels for example in examples for labels in _labels_of(example.stage)]
    return {
        name: np.stack([one[name] for one in made]).reshape(len(made), -1, *made[0][name].shape[2:])
        for name in made[0]
    }


def _labels_of(stage: Stage) -> list[dict[str, np.ndarray]]:
    if single := _tiles_of(stage):
        return [dense_labels(scene, PATCH) for scene in single]
    whole = stage_labels(stage.scene, PATCH)  # the picture shrunk to one tile teaches nothing
    places = product(range(stage.scene.height // TILE), range(stage.scene.width // TILE))
    return [
        nothing_known((SIDE, SIDE)),
        *(crop(whole, SIDE * row, SIDE * column, SIDE) for row, column in places),
    ]


def _asked(prompt: str, number: int, apart: bool) -> str:
    """A turn up to its answer, after the media or the turn before."""
    lead = "" if apart or number == 0 else "<|im_start|>user "
    return f"{lead}\n{prompt}<|im_end|><|im_start|>assistant\n"


class Builder:
    """Makes forward passes of a model whose tower and tokenizer it knows."""

    def __init__(self, model: LlavaOnevisionForConditionalGeneration, tokenizer: Tokenizer):
        self.model = model
        self.tokenizer = tokenizer
        self.device = model.device
        self._ids: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        if text not in self._ids:
            self._ids[text] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self._ids[text]

    # --- media ------------------------------------------------------------------------------

    def features(self, pixels: Tensor) -> Tensor:
        """(B, N, C) of the tower's last layer, as the model selects them."""
        tower = self.model.model.vision_tower
        return tower.encoder(inputs_embeds=tower.embeddings(pixels.to(self.device))).last_hidden_state

    def media(self, examples: list[Example], frozen: bool) -> tuple[str, list[Tensor], dict]:
        """The placeholder's kind, the embeddings (T, C) of each example's media by the model's packing, and
        the features of all tiles, as in `Output`.
        """
        stage, inner = examples[0].stage, self.model.model
        newline = inner.image_newline
        scenes = [scene for example in examples for scene in _tiles_of(example.stage)]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            pixels = pixel_values(scenes) if scenes else torch.cat([tiles(e.stage.scene) for e in examples])
            tower = self.features(pixels)
        features = inner.multi_modal_projector(tower)
        seen = {"tower": tower, "projected": features}
        if isinstance(stage, Clip):
            pooled = inner.apply_pooling(features).reshape(len(examples), -1, features.shape[-1])
            return "video", [torch.cat([frames, newline[None].to(frames)]) for frames in pooled], seen
        if isinstance(stage, Album):
            packed = self._pack([f[None] for f in features], [(TILE, TILE)] * len(features))
            each = len(stage.scenes)
            return "image", [torch.cat(packed[i : i + each]) for i in range(0, len(packed), each)], seen
        if scenes:  # the tile is the whole picture: seen once, laid out twice
            features = features[:, None] if examples[0].square else features[:, None].expand(-1, 2, -1, -1)
        else:
            features = features.unflatten(0, (len(examples), -1))
        size = (stage.scene.height, stage.scene.width)
        return "image", self._pack(list(features), [size] * len(examples)), seen

    def _pack(self, features: list[Tensor], sizes: list[tuple[int, int]]) -> list[Tensor]:
        return self.model.model.pack_image_features(
            features, sizes, image_newline=self.model.model.image_newline, vision_aspect_ratio="anyres_max_9"
        )[0]

    # --- text -------------------------------------------------------------------------------

    def sequence(self, example: Example, kind: str, count: int, apart: bool) -> Row:
        """An example with `count` visual tokens."""
        media = self.ids("<|im_start|>user ") + [self.ids(f"<{kind}>")[0]] * count
        turns = [
            (self.ids(_asked(prompt, number, apart)), self.ids(f"{answer}<|im_end|>"))
            for number, (prompt, answer) in enumerate(example.turns)
        ]
        return lay_out(media, turns, apart)

    def turns(self, number: int, example: Example, row: Row, apart: bool) -> list[Turn]:
        """The example's questions in their places, in row `number` of a batch."""
        made = []
        for turn, ((prompt, answer), (start, last)) in enumerate(zip(example.turns, row.begins, strict=True)):
            text, named = _asked(prompt, turn, apart), referents(example.stage, prompt)
            offset = text.index(prompt) - 1
            columns = [start + self._token_at(text, offset + one.end) for one in named]
            made.append(Turn(number, last, named, columns, evidence(example.stage, answer)))
        return made

    def _token_at(self, text: str, character: int) -> int:
        """The number of the token that holds a character."""
        offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
        return next(i for i, (_, stop) in enumerate(offsets) if stop > character)

    def forward(self, examples: list[Example], *, apart: bool = True, frozen: bool = False) -> Output:
        """One pass over examples whose media have the same shape.

        Args:
            apart: no turn sees another one.
            frozen: the tower is not trained.
        """
        kind, media, seen = self.media(examples, frozen)
        rows = [self.sequence(e, kind, len(m), apart) for e, m in zip(examples, media, strict=True)]
        batch = collate(rows, self.device)
        inner = self.model.model(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            mm_encoder_outputs={
                kind: SimpleNamespace(pooler_output=media if kind == "image" else torch.stack(media))
            },
            use_cache=False,
            output_hidden_states=True,
            output_attentions=True,
        )
        hidden = inner.last_hidden_state
        placed = [
            turn
            for number, (example, row) in enumerate(zip(examples, rows, strict=True))
            for turn in self.turns(number, example, row, apart)
        ]
        return Output(
            self.model.lm_head(hidden[batch.answered]),
            batch.target,
            batch.numbers,
            inner.hidden_states,
            inner.attentions,
            len(self.ids("<|im_start|>user ")),
            sight(examples[0].stage, examples[0].square),
            placed,
            **seen,
        )
