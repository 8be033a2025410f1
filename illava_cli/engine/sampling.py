"""The choice of a row's next token from its logits: each row by its own settings and random stream.

The order is that of `transformers`' logits processors: penalties and biases, what may not be said,
temperature, top-k, top-p, min-p. A row's answer does not depend on the rows beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from illava_cli.config.options import GenerationOptions
from illava_cli.errors import ModelError
from illava_cli.models.host import to_device


class Constraint(Protocol):
    """What an answer has to conform to, such as a grammar."""

    def allowed(self) -> Tensor:
        """(vocabulary,) True for the ids that may come next."""

    def accept(self, token: int) -> None:
        """Go on after a token."""


class Sampler:
    """How one row's tokens are chosen.

    Args:
        options: temperature, top-p and the like.
        prompt: token ids that the repetition penalty counts beside the answer's own.
        stream: tells apart answers to the same question: each has random numbers of its own.
        constraint: what the answer has to conform to.
    """

    def __init__(
        self,
        options: GenerationOptions,
        prompt: Sequence[int] = (),
        stream: int = 0,
        constraint: Constraint | None = None,
    ):
        self.options, self.constraint = options, constraint
        self.random = torch.Generator().manual_seed((options.seed + stream) % 2**63)
        self._prompt = list(prompt)
        self._new: list[int] = []  # tokens of the answer that are not counted yet
        self._counts: Tensor | None = None  # (vocabulary,) of the answer
        self._seen: Tensor | None = None  # (vocabulary,) what the prompt or the answer has
        self._biases: Tensor | None = None  # (vocabulary,)

    @property
    def is_plain(self) -> bool:
        """Whether it takes the most likely token, whatever was said before."""
        o = self.options
        counting = o.repetition_penalty != 1 or o.presence_penalty or o.frequency_penalty
        return not (o.temperature or counting or o.logit_bias or self.constraint)

    def accept(self, token: int) -> None:
        """Go on after a token."""
        self._new.append(token)
        if self.constraint is not None:
            self.constraint.accept(token)

    def choose(self, scores: Tensor) -> Tensor:
        """The next token's id, a tensor without dimensions, of its scores (vocabulary,)."""
        options = self.options
        scores = self._adjusted(scores)
        if self.constraint is not None:
            scores = scores.masked_fill(~self.constraint.allowed().to(scores.device), -torch.inf)
        if options.temperature == 0:
            return scores.argmax()
        scores = narrowed(scores / options.temperature, options)
        cumulative = scores.double().softmax(0).cumsum(0)
        draw = torch.rand((), dtype=torch.float64, generator=self.random)
        place = to_device(draw, scores.device) * cumulative[-1]
        # the last token of any probability, where rounding would lead beyond it
        last = torch.searchsorted(cumulative, cumulative[-1:])
        return torch.minimum(torch.searchsorted(cumulative, place[None], right=True), last)[0]

    def _adjusted(self, scores: Tensor) -> Tensor:
        """Scores with what was said counted against them, and biases."""
        options = self.options
        self._count(scores)
        if options.repetition_penalty != 1:
            penalty = options.repetition_penalty
            scores = scores.where(~self._seen, torch.where(scores < 0, scores * penalty, scores / penalty))
        if options.presence_penalty or options.frequency_penalty:
            counts = self._counts
            scores = scores - options.presence_penalty * (counts > 0) - options.frequency_penalty * counts
        return scores if self._biases is None else scores + self._biases

    def _count(self, scores: Tensor) -> None:
        """Take in what was said since the last token; each is counted once, where the scores are."""
        size, device = len(scores), scores.device
        if self._counts is None:
            self._counts = torch.zeros(size, dtype=scores.dtype, device=device)
            seen, biases = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=scores.dtype)
            seen[[token for token in self._prompt if token < size]] = True
            for token, bias in self.options.logit_bias.items():
                if token < size:
                    biases[token] = bias
            self._seen = to_device(seen, device)
            self._biases = to_device(biases, device) if self.options.logit_bias else None
        for token in self._new:
            if token < size:
                self._counts[token] += 1
                self._seen[token] = True
        self._new.clear()


def narrowed(scores: Tensor, options: GenerationOptions) -> Tensor:
    """Scores (vocabulary,) of which only the likely ones remain: top-k, top-p and min-p."""
    if 0 < options.top_k < len(scores):
        scores = scores.masked_fill(scores < scores.topk(options.top_k).values[-1], -torch.inf)
    if options.top_p < 1:
        ordered, order = scores.sort(descending=True)
        before = ordered.softmax(0).cumsum(0) - ordered.softmax(0)
        leaving = before >= options.top_p
        leaving[0] = False
        scores = scores.masked_fill(torch.zeros_like(leaving).scatter(0, order, leaving), -torch.inf)
    if options.min_p > 0:
        scores = scores.masked_fill(scores < scores.max() + math.log(options.min_p), -torch.inf)
    return scores


def chosen(logits: Tensor, samplers: Sequence[Sampler], unspoken: Tensor) -> list[int]:
    """The next token of each row.

    Args:
        logits: (B, vocabulary).
        unspoken: (vocabulary,) True for ids that are never chosen.

    Raises:
        ModelError: a row that draws has no probabilities.
    """
    logits = logits.masked_fill(unspoken, -torch.inf)
    tokens = logits.argmax(-1)
    rows = [row for row, sampler in enumerate(samplers) if not sampler.is_plain]
    if rows:
        wide = torch.promote_types(logits.dtype, torch.float32)
        drawn = torch.stack([samplers[row].choose(logits[row].to(wide)) for row in rows])
        tokens[to_device(rows, tokens.device)] = drawn
    found = tokens.tolist()
    if any(token >= logits.shape[1] for token in found):
        raise ModelError("the model's scores of the next token are no numbers: try --dtype float32")
    return found


def likeliest(logits: Tensor, tokens: Sequence[int], counts: Sequence[int | None]) -> list[dict | None]:
    """Log-probabilities under the model itself, before penalties and temperature, of the rows that want them.

    Args:
        logits: (B, vocabulary).
        tokens: the one that each row chose.
        counts: how many of the most likely ones are told beside it; None: nothing.

    Returns:
        By row `{"token": id, "logprob": x, "top": [(id, x), ...]}`, or None.
    """
    told: list[dict | None] = [None] * len(tokens)
    rows = [row for row, count in enumerate(counts) if count is not None]
    if not rows:
        return told
    logprobs = logits[rows].float().log_softmax(-1)
    own = logprobs.gather(1, to_device([[tokens[row]] for row in rows], logits.device))
    top, ids = logprobs.topk(max(1, *(counts[row] for row in rows)))
    values = torch.cat([own, top], dim=1).tolist()
    for row, (logprob, *likely), top_ids in zip(rows, values, ids.tolist(), strict=True):
        pairs = list(zip(top_ids, likely, strict=True))[: counts[row]]
        told[row] = {"token": tokens[row], "logprob": logprob, "top": pairs}
    return told
