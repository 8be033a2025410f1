"""What is measured: a session's question under one preset, and the same question to the stock model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, StoppingCriteria

from illava_cli.bench import stock
from illava_cli.bench.media import Medium
from illava_cli.bench.samples import Sample
from illava_cli.config.options import GenerationOptions
from illava_cli.engine.generation import synchronize
from illava_cli.engine.record import Generation
from illava_cli.engine.session import Request, Session
from illava_cli.models.family import Family
from illava_cli.models.media import Pixels

PROMPT = "Describe what is shown here."

RowMedia = tuple[list[Any], list[Any]]  # images and videos of one request


def measure(variant: Ours | Stock, number: int, new_tokens: int) -> Sample:
    """Request `number` (and those after it, for a batch) on the clock."""
    return variant.run([variant.medium.fresh(number + row) for row in range(variant.batch)], new_tokens)


def never_end(model: nn.Module) -> None:
    """Let every answer have exactly as many tokens as were asked for."""
    model.generation_config = GenerationConfig(pad_token_id=0)


class Ours:
    """A session under one preset; it is this variant's own."""

    def __init__(self, session: Session, medium: Medium, batch: int):
        self.session, self.medium, self.batch = session, medium, batch
        self.family = session.family

    def expect(self, new_tokens: int) -> None:
        """Let the coming answers have this many tokens."""
        options = GenerationOptions(max_tokens=new_tokens)
        self.session = self.session.asking(self.session.config.model_copy(update={"generation": options}))

    def answer(self, number: int, trace: bool = False) -> Generation:
        """The answer to one request, through the public way."""
        images, videos = self.medium.fresh(number)
        return self.session.ask(PROMPT, images, videos, trace=trace)

    def run(self, media: list[RowMedia], new_tokens: int) -> Sample:
        """The request (or batch) about `media`, one for each row, on the clock."""
        self.expect(new_tokens)
        started = time.perf_counter()
        if self.batch == 1:
            answers = [self.session.ask(PROMPT, *media[0])]
        else:
            answers = self.session.ask_batch([Request(PROMPT, *row) for row in media])
        request = time.perf_counter() - started
        t, media_s = answers[0].timings, sum(answer.timings.media_s for answer in answers)
        return Sample(media_s, t.vision_s, t.prefill_s, t.decode_s, request, new_tokens)


class FirstToken(StoppingCriteria):
    """Notes when the first token is there; reading it waits for the device, as our sessions do."""

    def __init__(self):
        self.at: float | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        input_ids[:, -1].tolist()
        if self.at is None:
            self.at = time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


class Stock:
    """The unmodified model, its pixels prepared by the same code."""

    def __init__(self, family: Family, model: nn.Module, medium: Medium, batch: int):
        self.family, self.model, self.medium, self.batch = family, model, medium, batch

    def read(self, media: list[RowMedia]) -> list[list[Pixels]]:
        """Decode and preprocess the images and videos of each row."""
        return [self.medium.read(self.family, images, videos) for images, videos in media]

    def ids(self, media: list[RowMedia], rows: list[list[Pixels]]) -> list[list[int]]:
        """Token ids of each row."""
        return [
            stock.prompt_ids(self.family, PROMPT, len(images), len(videos), row)
            for (images, videos), row in zip(media, rows, strict=True)
        ]

    @torch.inference_mode()
    def run(self, media: list[RowMedia], new_tokens: int) -> Sample:
        """The request (or batch) about `media`, one for each row, on the clock."""
        first = FirstToken()
        with self._decoder_starts() as starts:
            started = time.perf_counter()
            rows = self.read(media)
            was_read = time.perf_counter()
            ids = self.ids(media, rows)
            ready = time.perf_counter()
            self.generate(rows, ids, new_tokens, [first])
            synchronize(self.family.device)
            ended = time.perf_counter()
        times = (was_read - started, starts[0] - ready, first.at - starts[0], ended - first.at)
        return Sample(*times, ended - started, new_tokens)

    def generate(
        self,
        rows: list[list[Pixels]],
        ids: list[list[int]],
        new_tokens: int,
        watch: list[StoppingCriteria] | None = None,
    ) -> torch.Tensor:
        """Greedy tokens (B, T + new_tokens) for rows that were read."""
        inputs = stock.model_inputs(self.family, self.model, rows, ids)
        settings = GenerationConfig(max_new_tokens=new_tokens, do_sample=False, pad_token_id=0)
        return self.model.generate(**inputs, generation_config=settings, stopping_criteria=watch)

    @contextmanager
    def _decoder_starts(self) -> Iterator[list[float]]:
        """When each pass through the decoder begins; a hook of `nn.Module`, the model stays as it is."""
        times: list[float] = []

        def note(module: nn.Module, args: tuple) -> None:
            if not times:
                synchronize(self.family.device)
            times.append(time.perf_counter())

        handle = self.model.model.language_model.register_forward_pre_hook(note)
        try:
            yield times
        finally:
            handle.remove()
