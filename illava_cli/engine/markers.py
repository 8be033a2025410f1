"""`<image>` and `<video>` in a prompt: where its media stand. Imports no torch.

`\\<image>` is the word itself, and `\\\\<image>` a backslash before a medium: backslashes count only before
what they escape. So every text can be asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter

from illava_cli.errors import UsageError

MARKER = re.compile(r"(?<!\\)(\\*)<(image|video)>")
KINDS = ("image", "video")


def placed(prompt: str) -> list[str]:
    """The kinds of the media that a prompt places, in their order."""
    return [match.group(2) for match in MARKER.finditer(prompt) if not _escaped(match)]


def replaced(
    prompt: str, medium: Callable[[str], str], text: Callable[[str], str] = lambda text: text
) -> str:
    """A prompt without its marks: `medium(kind)` for a place of a medium, and escaped markers as words.

    Args:
        text: what becomes of the runs of text between media.
    """
    parts: list[str] = []
    words, end = "", 0
    for match in MARKER.finditer(prompt):
        slashes, kind = match.groups()
        words += prompt[end : match.start()] + slashes[: len(slashes) // 2]
        end = match.end()
        if _escaped(match):
            words += f"<{kind}>"
        else:
            parts += [text(words), medium(kind)]
            words = ""
    return "".join([*parts, text(words + prompt[end:])])


def check_text(text: str, name: str) -> None:
    """Refuse what no tokenizer takes: bytes of a shell that are not UTF-8 arrive as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name} is not valid UTF-8 text: check the encoding of the shell or file") from None


def check_places(prompt: str, kind: str, count: int) -> None:
    """Refuse more markers of a kind than there are media.

    Raises:
        UsageError: says how many.
    """
    marked = placed(prompt).count(kind)
    if marked > count:
        there_are = f"is 1 {kind}" if count == 1 else f"are {count} {kind}s"
        raise UsageError(
            f"the prompt has {marked} <{kind}> and there {there_are}: "
            f"give one --{kind} for each <{kind}>; \\<{kind}> is the word"
        )


def unplaced(prompt: str) -> str:
    """A prompt without the places of its media."""
    return MARKER.sub(lambda m: m.group() if _escaped(m) else m.group(1), prompt)


def interleaved(items: Sequence[tuple[str, str | None]]) -> str:
    """The prompt of texts and media in an order, with markers for media that do not simply come first.

    Media before all text keep the place that the checkpoint's chat template gives them. A text with
    `<image>` in it, as prompts written for LLaVA have, places them itself as it does in LLaVA's own runs:
    where the media suffice. Where they do not, it is text, and must not be taken for a medium. `\\<image>`
    is text always.

    Args:
        items: (`text`, the text) or (a medium's kind, anything).
    """
    kinds = [kind for kind, _ in items]
    media = [kind for kind in kinds if kind in KINDS]
    first = kinds == sorted(media) + ["text"] * (len(kinds) - len(media))
    if not first:
        prompt = ""
        # texts next to one another are one: a marker may lie across their border
        for kind, run in groupby(items, key=itemgetter(0)):
            if kind == "text":
                prompt += _plain("".join(value for _, value in run))
            else:
                slashes = prompt[len(prompt.rstrip("\\")) :]  # twice as many escape nothing
                prompt += slashes + "".join(f"<{kind}>" for _ in run)
        return prompt
    text = "".join(value for kind, value in items if kind == "text")
    marked = placed(text)
    return _plain(text, [kind for kind in KINDS if marked.count(kind) > media.count(kind)])


def _escaped(match: re.Match) -> bool:
    return len(match.group(1)) % 2 == 1


def _plain(text: str, kinds: Sequence[str] = KINDS) -> str:
    """`text` with the markers of `kinds` escaped."""

    def plain(match: re.Match) -> str:
        return match.group() if _escaped(match) or match.group(2) not in kinds else "\\" + match.group()

    return MARKER.sub(plain, text)
