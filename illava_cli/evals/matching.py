"""When an answer counts as right: exact after normalisation, or the choice that it names."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
LETTER = re.compile(r"\(?([A-Za-z])[).:]?(?:\s+(.*))?", re.DOTALL)


def normalise(text: str) -> str:
    """Case, surrounding and repeated space, a final full stop and articles are set aside.

    As in the VQA evaluation (Antol et al. 2015, arXiv 1505.00468), which sets all punctuation aside.
    """
    plain = " ".join(text.casefold().split()).removesuffix(".").rstrip()
    without = " ".join(ARTICLES.sub(" ", plain).split())
    return without or plain  # the answer "A" is not nothing


def chosen(text: str, choices: Sequence[str]) -> str | None:
    """The choice that `text` names: the whole choice, or its letter (`B`, `(b)`, `B. blue`); else None."""
    wanted = normalise(text)
    for choice in choices:
        if normalise(choice) == wanted:
            return choice
    letter = LETTER.fullmatch(text.strip())
    if letter is None:
        return None
    index = string.ascii_uppercase.find(letter[1].upper())
    if index >= len(choices) or (letter[2] and normalise(letter[2]) != normalise(choices[index])):
        return None
    return choices[index]


def is_right(text: str, answer: str | None, choices: Sequence[str] | None = None) -> bool | None:
    """Whether `text` gives `answer`; None where no right answer is known."""
    if answer is None:
        return None
    if choices is None:
        return normalise(text) == normalise(answer)
    return chosen(text, choices) == answer
