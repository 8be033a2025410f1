"""Teaches the projector and the decoder, on features of the frozen tower that are computed once."""

from __future__ import annotations

import json
import math
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from shown import Media, Pass, Shower
from tiny import state
from tiny.clock import Clock
from tiny.grounding import unseen
from tiny.optimizer import Optimizer
from tiny.precision import autocast
from tiny.sight import Sights
from torch import Tensor, nn
from torch.nn import functional as F

from illava_cli.config.options import MediaOptions
from illava_cli.engine.request import Slot
from illava_cli.engine.session import Session
from real.clip import EDGE, PATCH
from real.composites import TASKS, Picture, Question, patch_labels
from real.pictures import KINDS

SIDE = EDGE // PATCH
SEEN = 16  # pictures in one pass of the tower
ONE_SQUARE = MediaOptions(max_tiles=1)  # its one tile would show the same again
BATCH, TURNS = 12, 10
RATE, WARMUP = 2e-3, 60
NAME_LAYER = 3  # after which a name's token knows where its thing is
STATE, EVERY = "photographs.pt", 120.0  # the run's checkpoint, and seconds between two
SLOT = Slot("image", 0)
Named = tuple[int, int, str]  # row, place of the name's last token, kind
NAMED = re.compile(rf"\b({'|'.join(KINDS)})\b")


@dataclass(frozen=True)
class Album:
    """Pictures with their features (P, N, C) of the tower."""

    pictures: list[Picture]
    features: Tensor


@torch.inference_mode()
def see(
    session: Session,
    pictures: Sequence[Picture],
    images: Sequence[Image.Image],
    dtype: torch.dtype = torch.bfloat16,
) -> Album:
    """The features that the model's projector is given, kept in `dtype`."""
    family, model = session.family, session.model.model
    layer, found = session.model.config.vision_feature_layer, []
    for start in range(0, len(images), SEEN):
        group = [family.preprocess_image(one, ONE_SQUARE, True) for one in images[start : start + SEEN]]
        values = torch.cat([one.pixel_values(0, 1) for one in group]).to(session.model.dtype)
        out = model.vision_tower(values, output_hidden_states=True)
        found.append(out.hidden_states[layer][:, 1:].to(dtype))
    return Album(list(pictures), torch.cat(found))


class Readers(nn.Module):
    """What the losses beside the answers read: kind and centre under each projected patch, and at a name
    whether its thing is there, and where. Thrown away after training.
    """

    def __init__(self, width: int):
        super().__init__()
        self.kind, self.centre = nn.Linear(width, len(KINDS) + 1), nn.Linear(width, 2)
        self.there, self.place = nn.Linear(width, 2), nn.Linear(width, 2)


class Trainer:
    """Trains all but the tower of a session's model."""

    def __init__(self, session: Session, album: Album, folder: Path, seed: int = 0):
        self.session, self.album, self.folder = session, album, folder
        self.model, self.family = session.model, session.family
        self.model.requires_grad_(True)
        self.model.model.vision_tower.requires_grad_(False)
        self.readers = Readers(self.model.config.text_config.hidden_size)
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        named += list(self.readers.named_parameters("heads"))
        self.optimizer, self.seed = Optimizer(named), seed
        self.progress = state.Progress("photographs")
        if (folder / STATE).exists():
            self.progress = state.restore(folder / STATE, self.model, self.readers, self.optimizer)
        self.labels = [patch_labels(picture, SIDE) for picture in album.pictures]
        self.shower, self.sights = Shower(session, remembering=True), Sights(session.family)
        decoder = self.model.config.text_config
        self.watched = min(NAME_LAYER, decoder.num_hidden_layers) - 1, 0

    # --- one pass -----------------------------------------------------------------------------

    def media(self, number: int) -> Media:
        """A picture, its features in place of its pixels."""
        features = self.album.features[number : number + 1].float()
        geometry = self.family.geometry("image", (EDGE, EDGE), options=ONE_SQUARE)
        return {SLOT: geometry.filled(lambda start, stop: features.expand(stop - start, -1, -1), None)}

    def forward(self, chosen: Sequence[int], turns: Sequence[list[Question]]) -> tuple[Pass, list[Named]]:
        """Of pictures and the questions about each: the pass, and what is named."""
        media = [self.media(number) for number in chosen]
        out = self.shower.forward(list(zip(media, turns, strict=True)), watched=[self.watched])
        named = []
        for row, (own, laid) in enumerate(zip(turns, out.rows, strict=True)):
            for (prompt, _), (begin, last) in zip(own, laid.begins, strict=True):
                ids = laid.ids[begin : last + 1]
                for found in NAMED.finditer(prompt):
                    column = begin + self.shower.token_at(ids, prompt, found.end())
                    named.append((row, column, found[0]))
        return out, named

    def loss(self, chosen: Sequence[int], turns: Sequence[list[Question]]) -> tuple[Tensor, dict[str, float]]:
        with autocast(self.model.device):
            out, named = self.forward(chosen, turns)
            logits = self.model.lm_head(out.last[out.batch.answered])
        parts = {
            "answers": F.cross_entropy(logits.float(), out.batch.target),
            "dense": self._dense(out.seen.projected.float(), chosen),
            **self._named(out, named, chosen),
        }
        loss = sum((1.0 if name == "answers" else 0.3) * part for name, part in parts.items())
        return loss, {name: part.item() for name, part in parts.items()}

    def _dense(self, projected: Tensor, chosen: Sequence[int]) -> Tensor:
        hidden = F.rms_norm(projected, projected.shape[-1:])
        kinds = torch.from_numpy(np.stack([self.labels[i][0] for i in chosen]))
        places = torch.from_numpy(np.stack([self.labels[i][1] for i in chosen]))
        weight = torch.ones(len(KINDS) + 1)
        weight[0] = 0.2
        loss = F.cross_entropy(self.readers.kind(hidden).flatten(0, 1), kinds.flatten(), weight)
        known = kinds > 0
        return loss + 4 * (self.readers.centre(hidden[known]) - places[known]).abs().mean()

    def _named(self, out: Pass, named: list[Named], chosen: Sequence[int]) -> dict[str, Tensor]:
        if not named:
            return {}
        rows, columns, names = zip(*named, strict=True)
        states = out.hidden[NAME_LAYER] if len(out.hidden) > NAME_LAYER else out.hidden[-1]
        hidden = states[list(rows), list(columns)].float()
        hidden = F.rms_norm(hidden, hidden.shape[-1:])
        things = [
            next((one for one in self.album.pictures[chosen[row]].placed if one.kind == name), None)
            for row, name in zip(rows, names, strict=True)
        ]
        there = torch.tensor([int(one is not None) for one in things])
        loss = F.cross_entropy(self.readers.there(hidden), there)
        if not there.any():
            return {"named": loss}
        places = torch.tensor([(one.x, one.y) for one in things if one is not None])
        loss = loss + 4 * (self.readers.place(hidden[there > 0]) - places).abs().mean()
        sight = self.sights.of(self.media(chosen[0]), out.where[0])
        looks = [
            (row, column, sight.near((one.x, one.y)))
            for row, column, one in zip(rows, columns, things, strict=True)
            if one is not None
        ]
        return {"named": loss, "looks": unseen(out.looks[self.watched], looks)}

    # --- the run ------------------------------------------------------------------------------

    def questions(self, number: int, rng: np.random.Generator) -> list[tuple[str, str]]:
        """About one picture: up to `TURNS` different ones."""
        picture, names = self.album.pictures[number], list(TASKS)
        drawn = (TASKS[str(name)][0](picture, rng) for name in rng.choice(names, 2 * TURNS))
        return list(dict.fromkeys(q for q in drawn if q is not None))[:TURNS]

    def run(self, seconds: float) -> None:
        """Train until so many seconds of training are done, those of earlier runs included; a line of the log
        and a checkpoint now and then.
        """
        self.model.train()
        progress, clock, recent = self.progress, Clock(self.progress.seconds), defaultdict(list)
        saved = time.monotonic()
        while clock.spent < seconds:
            clock.start()
            curve = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * clock.spent / seconds))
            self.optimizer.set_rates([RATE * curve * min(1.0, (progress.step + 1) / WARMUP)])
            parts = self.step(np.random.default_rng([self.seed, progress.step]))
            clock.stop()
            progress.step, progress.seconds = progress.step + 1, clock.spent
            for name, value in parts.items():
                recent[name].append(value)
            if time.monotonic() - saved > EVERY or clock.spent >= seconds:
                saved = time.monotonic()
                state.save(self.folder / STATE, progress, self.model, self.readers, self.optimizer)
                means = {name: round(float(np.mean(values)), 4) for name, values in recent.items()}
                line = {"step": progress.step, "minutes": round(clock.spent / 60, 2), **means}
                with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps(line) + "\n")
                recent.clear()
        self.model.eval()

    def step(self, rng: np.random.Generator) -> dict[str, float]:
        """One update of the weights; the parts of its loss."""
        chosen = rng.integers(len(self.album.pictures), size=BATCH).tolist()
        loss, parts = self.loss(chosen, [self.questions(number, rng) for number in chosen])
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.optimizer.parameters(), 1.0)
        self.optimizer.step()
        return parts
