"""Text from outside never becomes a control token: `<|im_end|>` in a prompt is ten characters.

A chat template mixes its own control tokens with a user's words in one string, and a tokenizer takes one
for the other. So words that spell a token are hidden while the template is rendered (`hidden`). What it
renders is then encoded by a second tokenizer that differs in one thing: its tokens are spelled as nobody can
guess (`encode`). All else is the first one's: normalisation, prefix spaces, joins of template and words.
Without hidden words the first one encodes, as `transformers`' processors do.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Container
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

# noncharacters, which no text should hold and no template strips or splits at
OPEN, CLOSE = "\ufdd0", "\ufdd1"


class ControlTokens:
    """The added tokens of a tokenizer, special or not, and how text that spells them stays text."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.nonce = secrets.randbelow(10**24)  # digits have no case
        added = tokenizer.added_tokens_decoder.items()
        # blanks are words of a vocabulary, and control nothing
        self.ids = {token.content: id for id, token in added if token.content.strip()}
        self._names = list(self.ids)
        # the longest first, as the tokenizer has it
        spelled = "|".join(map(re.escape, sorted(self._names, key=len, reverse=True))) or r"(?!)"
        self._spelled = re.compile(spelled)
        self._either = re.compile(f"{OPEN}{self.nonce}-([0-9]+){CLOSE}|{spelled}")

    def hidden(self, text: str) -> str:
        """`text` with each spelling of a token hidden from the tokenizer and the template."""
        return self._spelled.sub(lambda m: self._renamed(m.group(), "-"), text)

    def encode(self, text: str, begins: bool) -> list[int]:
        """Token ids of a rendered text, of which `hidden` words stay words.

        Args:
            begins: the tokenizer adds what it sets before and after a text (BOS).
        """
        if f"{OPEN}{self.nonce}-" not in text:
            return self.tokenizer(text, add_special_tokens=begins)["input_ids"]
        text = self._either.sub(self._shown, text)
        return self._guarded.encode(text, add_special_tokens=begins).ids

    def _shown(self, match: re.Match) -> str:
        """A hidden word as it was, a token of the template's as `_guarded` spells it."""
        return self._names[int(match.group(1))] if match.group(1) else self._renamed(match.group(), "+")

    def _renamed(self, name: str, sign: str) -> str:
        return f"{OPEN}{self.nonce}{sign}{self._names.index(name)}{CLOSE}"

    @cached_property
    def _guarded(self) -> Tokenizer:
        """Made when it is first needed, in a second."""
        return self.respelled(self.ids)

    def respelled(self, names: Container[str]) -> Tokenizer:
        """The tokenizer with other spellings, which no text has, of these of its tokens; ids are the same."""
        data = json.loads(self.tokenizer.backend_tokenizer.to_str())
        data["truncation"] = data["padding"] = None
        for token in data["added_tokens"]:
            if token["content"] in self.ids and token["content"] in names:
                token["content"] = self._renamed(token["content"], "+")
                # a spelling that the vocabulary has keeps its id there; all families' are byte pairs
                data["model"]["vocab"][token["content"]] = token["id"]
        return Tokenizer.from_str(json.dumps(data))
