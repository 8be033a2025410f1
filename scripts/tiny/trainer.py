"""Three stages of training: the tower on dense labels, the decoder on the frozen tower, all together."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from illava_cli.engine.session import Session
from illava_cli.evals.world import stream
from tiny import state
from tiny.batches import Builder
from tiny.binding import Binding
from tiny.clock import Clock
from tiny.comparing import Comparing
from tiny.grounding import Grounding
from tiny.labels import PATCH, Heads
from tiny.lessons import lesson, reading
from tiny.measure import accuracy
from tiny.naming import Naming
from tiny.optimizer import Optimizer, is_tower
from tiny.precision import autocast
from tiny.recipe import STAGES, batch
from tiny.threads import Threads

READERS = {"grounding": Grounding, "comparing": Comparing, "binding": Binding}  # of the decoder
# the kinds of which they watch heads, if not all
LOOKED_AT = {"comparing": ("clip",), "binding": ("note", "page")}
DENSE = defaultdict(lambda: 0.05, note=0.5, page=0.5)  # weight of the tower's labels in the joint stage
READING_SHARE = 0.25  # of the joint steps in which the tower learns to read, alone
CHAT_SHARE = 0.2  # of the joint steps in which the turns are one chat
ANNEAL = 240.0  # seconds of training left once `stop` is seen


@dataclass(frozen=True)
class Plan:
    """How long and how fast.

    Args:
        seconds: of training, all stages together.
        shares: of each stage: tower, decoder, joint.
        rates: the highest learning rate by stage, for the tower and for the rest.
        grounding: weight of the losses of the decoder's `READERS`.
        first: the stage to begin with; those before it are left out.
        check: seconds between measurements, and of wall time between checkpoints.
    """

    seconds: float
    seed: int = 0
    shares: tuple[float, float, float] = (0.24, 0.3, 0.46)
    rates: tuple[tuple[float, float], ...] = ((4e-3, 0.0), (0.0, 3e-3), (1.6e-3, 1.2e-3))
    grounding: float = 0.3
    first: str = "tower"
    warmup: int = 40
    check: float = 300.0
    check_count: int = 32


class Trainer:
    """Trains a model in a folder that holds its checkpoint, its log, and a file `stop` to end it early."""

    def __init__(self, session: Session, folder: Path, plan: Plan):
        """
        Args:
            session: with weights in float32; attention `eager` on a CPU, as the backward pass of PyTorch's
                FlashAttention is slow there.
        """
        self.model, self.folder, self.plan = session.model, folder, plan
        self.builder, model = Builder(session), session.model
        model.requires_grad_(True)
        self.heads = nn.ModuleDict(
            {
                "dense": Heads(model.config.vision_config.hidden_size),
                **{name: kind(model.config.text_config) for name, kind in READERS.items()},
            }
        ).to(model.device)
        named = list(model.named_parameters())  # tied ones once
        tower = [pair for pair in named if is_tower(pair[0])]
        rest = [pair for pair in named if not is_tower(pair[0])]
        self.tower = [parameter for _, parameter in tower]
        readers = {name: list(heads.named_parameters(f"heads.{name}")) for name, heads in self.heads.items()}
        rest += [pair for name in READERS for pair in readers[name]]
        self.optimizer = Optimizer(tower + readers["dense"], rest)
        self.rates = [0.0, 0.0]
        self.progress = state.Progress(plan.first)
        self.end = plan.seconds
        if (folder / "state.pt").exists():
            self.progress = state.restore(folder / "state.pt", model, self.heads, self.optimizer)
        self.clock = Clock(self.progress.seconds)
        self.threads = Threads()
        self.naming = Naming(session.family.tokenizer)
        self.recent: dict[str, list[float]] = defaultdict(list)

    # --- time -------------------------------------------------------------------------------

    def stage_end(self) -> float:
        """Seconds of training at which the present stage ends."""
        done = list(("tower", "decoder", "joint")).index(self.progress.stage) + 1
        return self.end if done == 3 else self.plan.seconds * sum(self.plan.shares[:done])

    def share_done(self) -> float:
        """Share of the present stage, 0..1."""
        begun = self.progress.stage_started
        return min(1.0, (self.clock.spent - begun) / max(self.stage_end() - begun, 1e-9))

    def set_rates(self, stage_step: int) -> None:
        names = ("tower", "decoder", "joint")
        rates = self.plan.rates[names.index(self.progress.stage)]
        # the decoder's stage ends at a high rate, from which the joint one decays to zero
        floor = {"tower": 0.1, "decoder": 0.6, "joint": 0.01}[self.progress.stage]
        curve = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * self.share_done()))
        curve *= min(1.0, (stage_step + 1) / self.plan.warmup)
        self.rates = [rate * curve for rate in rates]
        self.optimizer.set_rates(self.rates)

    # --- steps ------------------------------------------------------------------------------

    def looks_alone(self) -> bool:
        """Whether the present step is the tower's alone."""
        rng = stream(f"training/{self.plan.seed}/alone", self.progress.step, "train")
        joint = self.progress.stage == "joint"
        return self.progress.stage == "tower" or (joint and rng.random() < READING_SHARE)

    def tower_loss(self, step: int) -> Tensor:
        rng = stream(f"training/{self.plan.seed}/tower", step, "train")
        joint = self.progress.stage == "joint"
        lessons = reading(rng) if joint else lesson(rng, self.share_done())
        pictures, labels = zip(*lessons, strict=True)
        ordered = [self.builder.ordered(one, PATCH) for one in labels]
        target = {
            name: torch.stack([one[name] for one in ordered]).to(self.model.device) for name in ordered[0]
        }
        with autocast(self.model.device):
            features = self.builder.looked_at(pictures)
        loss, right = self.heads["dense"](features.float(), target)
        for name, value in right.items():
            if value == value:
                self.recent[name].append(value)
        return loss

    def answer_loss(self, step: int) -> Tensor:
        rng = stream(f"training/{self.plan.seed}/{self.progress.stage}", step, "train")
        mix = STAGES[self.progress.stage]
        kind = str(rng.choice(list(mix), p=list(mix.values())))
        joint = self.progress.stage == "joint"
        apart = not (joint and rng.random() < CHAT_SHARE)
        examples = batch(kind, self.plan.seed, step, self.most())
        for parameter in self.tower:
            parameter.requires_grad_(joint)
        with autocast(self.model.device):
            watched = [
                head
                for name in READERS
                if self.plan.grounding and kind in LOOKED_AT.get(name, (kind,))
                for head in self.heads[name].watched
            ]
            out = self.builder.forward(examples, apart=apart, watched=watched)
            loss = F.cross_entropy(out.logits.float(), out.target)
            self.recent[kind].append(loss.item())
            if self.plan.grounding:
                for reader in READERS:
                    looked, found = self.heads[reader](out)
                    loss = loss + self.plan.grounding * looked
                    for name, share in found.items():
                        self.recent[f"{kind} {name}"].append(share)
            seen = out.shown.seen
            tokens = self.builder.labels(examples, out, self.builder.token)
            named = self.naming.loss(self.model, seen.projected, tokens)
        self.recent["naming"].append(named.item())
        loss = loss + (0.1 if joint else 0.3) * named
        if joint:
            patches = self.builder.labels(examples, out, PATCH)
            loss = loss + DENSE[kind] * self.heads["dense"](seen.tower.float(), patches)[0]
        return loss

    def most(self) -> int:
        """The most shapes in a picture: a curriculum from two to five, few of them now and then later too."""
        done = self.share_done() if self.progress.stage == "decoder" else 1.0
        return 2 if done < 0.15 or self.progress.step % 4 == 0 else 3 if done < 0.3 else 5

    # --- the run ----------------------------------------------------------------------------

    def run(self) -> None:
        """Train to the end of the budget, or to `stop`."""
        torch.manual_seed(self.plan.seed)
        self.model.train()
        checked = saved = time.monotonic()
        begun = self.progress.step
        bar = tqdm(total=round(self.end), unit="s", disable=not sys.stderr.isatty())
        while self.clock.spent < self.end:
            if (self.folder / "stop").exists():
                self.end = min(self.end, self.clock.spent + ANNEAL)
                (self.folder / "stop").unlink()
            if self.clock.spent >= self.stage_end():
                self.note(stage_done=self.progress.stage)
                self.progress.stage = "decoder" if self.progress.stage == "tower" else "joint"
                self.progress.stage_started, begun = self.clock.spent, self.progress.step
            self.step(self.progress.step - begun)
            bar.update(round(self.clock.spent) - bar.n)
            if self.progress.step % 50 == 0:
                self.note(**{name: round(float(np.mean(values)), 4) for name, values in self.recent.items()})
                self.recent.clear()
            now = time.monotonic()
            if now - checked > self.plan.check and self.progress.stage != "tower":
                self.measure(self.plan.check_count)
                checked = time.monotonic()
            if now - saved > self.plan.check:
                self.save()
                saved = time.monotonic()
        self.save()
        self.measure(4 * self.plan.check_count)

    def measure(self, count: int) -> None:
        """Accuracy by task, to the log."""
        with autocast(self.model.device):
            self.note(**accuracy(self.builder, count))

    def step(self, stage_step: int) -> float:
        """One update of the weights; its loss."""
        self.clock.start()
        self.threads.adapt()
        self.set_rates(stage_step)
        loss = (self.tower_loss if self.looks_alone() else self.answer_loss)(self.progress.step)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.optimizer.parameters(), 1.0)
        self.optimizer.step()
        self.progress.step += 1
        self.clock.stop()
        self.progress.seconds = self.clock.spent
        return loss.item()

    def save(self) -> None:
        state.save(self.folder / "state.pt", self.progress, self.model, self.heads, self.optimizer)

    def note(self, **values) -> None:
        """One JSON line of the log."""
        line = {
            "stage": self.progress.stage,
            "step": self.progress.step,
            "minutes": round(self.clock.spent / 60, 2),
            "rate": round(max(self.rates), 6),
            **{name: round(v, 4) if isinstance(v, float) else v for name, v in values.items()},
        }
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
