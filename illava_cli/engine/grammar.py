"""Answers that conform to a JSON schema: which tokens may come next, by a grammar over the tokenizer's own.

llguidance does the work. What it needs of a tokenizer, all its tokens in a trie, takes up to a second and is
made once; a compiled schema is copied for each answer, in microseconds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from illava_cli.config.json_schema import INSTALL, grammar_of, is_installed
from illava_cli.config.settings import Config
from illava_cli.engine.sampling import Constraint
from illava_cli.errors import ModelError, UsageError
from illava_cli.models.family import Family
from illava_cli.text import one_line

KEPT = 64  # compiled schemas
SHOWN = 200  # characters of what went wrong


def require_grammars(config: Config) -> None:
    """Refuse a schema where nothing can follow it.

    Raises:
        UsageError: the library is missing.
    """
    if config.generation.json_schema is not None and not is_installed():
        raise UsageError(INSTALL)


class Grammars:
    """The schemas that are asked for on one loaded model; several threads may ask at once."""

    def __init__(self, family: Family):
        self.family = family
        self._compiled: OrderedDict[str, Any] = OrderedDict()  # the latest used last
        self._lock = threading.Lock()

    def constrain(self, config: Config) -> Callable[[], Constraint] | None:
        """What makes the constraint of each answer; None where there is no schema.

        Raises:
            UsageError: no grammar can be made of it, or the library is missing.
        """
        schema = config.generation.json_schema
        if schema is None:
            return None
        require_grammars(config)
        return partial(SchemaConstraint, self._matcher(schema), self._spoken, self._ends)

    def _matcher(self, schema: str) -> Any:
        """A compiled schema, at its beginning."""
        from llguidance import LLMatcher, LLParserLimits

        with self._lock:
            if schema not in self._compiled:
                limits = LLParserLimits(verbose_errors=False)
                made = LLMatcher(self._tokenizer, grammar_of(schema), log_level=0, limits=limits)
                if made.is_error():
                    raise UsageError(f"json_schema: cannot be followed: {_reason(made)}")
                self._compiled[schema] = made
                if len(self._compiled) > KEPT:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(schema)
            return self._compiled[schema]

    @cached_property
    def _tokenizer(self) -> Any:
        from llguidance import LLTokenizer

        backend = self.family.tokenizer.backend_tokenizer
        added = backend.get_added_tokens_decoder().items()
        # `<image>` in a string that has to be said is words, as it is in a prompt
        unsaid = {token.content for id, token in added if token.special or not self._may_say(id)}
        return LLTokenizer(self.family.control_tokens.respelled(unsaid).to_str(), eos_token=self._ends)

    def _may_say(self, id: int) -> bool:
        return id < len(self._spoken) and bool(self._spoken[id])

    @cached_property
    def _ends(self) -> list[int]:
        return sorted(id for id in self.family.end_ids if id < len(self._spoken))

    @cached_property
    def _spoken(self) -> Tensor:
        """(vocabulary of the logits,) True for ids that an answer may have."""
        return ~self.family.unspoken.cpu()


class SchemaConstraint:
    """One answer on its way through a schema's grammar."""

    def __init__(self, compiled: Any, spoken: Tensor, ends: list[int]):
        """
        Args:
            compiled: llguidance's matcher at the grammar's beginning; it stays there.
            spoken: (vocabulary,) True for ids that an answer may have.
            ends: ids that end an answer.

        Raises:
            ModelError: nothing can be said that conforms.
        """
        self._matcher, self._spoken, self._ends = compiled.deep_copy(), spoken, ends
        self._allowed = self._next()

    def allowed(self) -> Tensor:
        """(vocabulary,) True for the ids that may come next; those that end the answer where it is whole."""
        return self._allowed

    def accept(self, token: int) -> None:
        """Go on after a token.

        Raises:
            ModelError: the grammar has become too large, or nothing that conforms can follow.
        """
        if token not in self._ends:
            self._matcher.consume_token(token)
            self._allowed = self._next()

    def _next(self) -> Tensor:
        # computed here and not when it is asked for: what fails now is this answer's affair alone
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        known = torch.from_numpy(np.unpackbits(bits, bitorder="little")).bool()
        # a tokenizer may have fewer tokens than the output head has rows, or more
        size = min(len(known), len(self._spoken))
        allowed = torch.zeros_like(self._spoken)
        allowed[:size] = known[:size]
        allowed[self._ends] = self._matcher.is_accepting()
        allowed &= self._spoken
        if self._matcher.is_error():
            raise ModelError(f"the schema cannot be followed any further: {_reason(self._matcher)}")
        if not allowed.any():
            raise ModelError("the schema asks for what this model has no tokens for: allow another answer")
        return allowed


def _reason(matcher: Any) -> str:
    return one_line(matcher.get_error().partition("<state>")[0])[:SHOWN]
