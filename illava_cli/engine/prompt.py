"""From a question and its media to pieces: runs of token ids, and media in their places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from jinja2 import TemplateError

from illava_cli.engine.markers import check_places, check_text, placed, replaced
from illava_cli.engine.request import Encoded, Piece, Slot
from illava_cli.errors import ModelError, UsageError
from illava_cli.models.family import IMAGES_ONLY, Family

SENTINEL = "\x00answer\x00"
SWITCH = "enable_thinking"  # the variable of chat templates that lets an answer begin with thoughts

# by kind, how each medium of a turn stands in its text: `Family.marker`
Markers = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Opening:
    """What decides how a template begins an answer.

    Args:
        thinking: whether the model is to think before it.
        given: whether the answer is known; it has no thoughts, and would go on as one that is open.
    """

    thinking: bool = False
    given: bool = False


def check_thinking(family: Family, thinking: bool) -> None:
    """Refuse thoughts of a model whose template cannot be asked for them.

    Raises:
        UsageError: they are wanted, and it cannot.
    """
    if thinking and not _can_think(family):
        raise UsageError(
            f"thinking: the chat template of {family.name} has no {SWITCH}: leave --thinking out"
        )


def _can_think(family: Family) -> bool:
    return SWITCH in str(family.tokenizer.chat_template)


def markers_of(family: Family, media: Mapping[Slot, Encoded]) -> Markers:
    """Those of media that have been read."""
    return {
        kind: [family.marker(kind, one.medium) for slot, one in media.items() if slot.kind == kind]
        for kind in family.markers
    }


def user_message(family: Family, prompt: str, images: int, videos: int) -> dict:
    """A user's turn as the chat template wants it.

    `<image>` and `<video>` in the prompt place media; those without a marker come first. Words that spell
    a token stay words.

    Raises:
        UsageError: more markers than media, or videos for a family that takes images only.
    """
    check_text(prompt, "the prompt")
    content = []
    places = placed(prompt)
    for kind, count in (("image", images), ("video", videos)):
        marked = places.count(kind)
        if (marked or count) and kind not in family.markers:
            raise UsageError(IMAGES_ONLY if count else f"{IMAGES_ONLY}; \\<{kind}> in a prompt is the word")
        check_places(prompt, kind, count)
        content += [{"type": kind}] * (count - marked)
    text = replaced(prompt, family.markers.__getitem__, family.control_tokens.hidden)
    return {"role": "user", "content": [*content, {"type": "text", "text": text}]}


def system_message(family: Family, text: str) -> dict:
    """A system prompt as the chat template wants it: all of it is words, `<image>` as well as `\\<image>`."""
    check_text(text, "the system prompt")
    words = family.control_tokens.hidden(replaced(text, "<{}>".format))
    return {"role": "system", "content": [{"type": "text", "text": words}]}


def first_turn(
    family: Family, user: dict, system: str | None, markers: Markers, opening: Opening = Opening()
) -> list[Piece]:
    """The pieces of a conversation's first turn, up to where the answer begins."""
    text, slots = _shown(family, _first_text(family, user, system, opening), markers)
    return _pieces(family, _first_ids(family, text), slots)


def leading_tokens(
    family: Family, pieces: list[Piece], system: str | None, opening: Opening = Opening()
) -> int:
    """How many tokens of a first turn stand before the user's words and media: the system prompt."""
    other = {"role": "user", "content": [{"type": "text", "text": SENTINEL}]}
    first = pieces[0] if isinstance(pieces[0], list) else []
    pairs = zip(first, _first_ids(family, _first_text(family, other, system, opening)), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _first_text(family: Family, user: dict, system: str | None, opening: Opening) -> str:
    """A conversation that begins with `user`."""
    leading = [system_message(family, system)] if system is not None else []
    return _render(family, [*leading, user], opening)


def _first_ids(family: Family, text: str) -> list[int]:
    """Token ids of a conversation's beginning, placeholders among them."""
    bos = family.tokenizer.bos_token
    written = bool(bos) and text.startswith(bos)  # by the template: the tokenizer would write a second one
    return _encode(family, text, not written)


def later_turn(
    family: Family, user: dict, last_token: int | None, markers: Markers, opening: Opening = Opening()
) -> list[Piece]:
    """What a later turn adds to the conversation so far: the end of the last answer, and the question.

    Args:
        last_token: the last answer's last token; an end token there is not repeated, nor are the blanks
            that the template writes before its own.
    """
    # whatever the template writes after an answer, it writes after this one
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": SENTINEL}]},
        user,
    ]
    text, slots = _shown(family, _render(family, messages, opening).split(SENTINEL, 1)[1], markers)
    ids = _encode(family, text, False)
    if last_token in family.end_ids and last_token in ids:
        end = ids.index(last_token)
        if not family.tokenizer.decode(ids[:end]).strip():
            ids = ids[end + 1 :]
    return _pieces(family, ids, slots)


def answer_ids(family: Family, answer: str) -> list[int]:
    """Token ids of an answer that somebody gave: words that spell a token stay words.

    Of one with thoughts what follows them, as the templates of models that think have it.
    """
    check_text(answer, "an answer")
    if _can_think(family):
        answer = answer.rpartition(family.thought_marks[1])[2].lstrip("\n")
    return family.control_tokens.encode(family.control_tokens.hidden(answer), False)


def next_turn(
    family: Family, user: dict, pending: list[int], markers: Markers, opening: Opening = Opening()
) -> list[Piece]:
    """What a later turn adds to the KV cache: what of the last answer is not there yet, and `later_turn`."""
    last = pending[-1] if pending else None
    return [*([pending] if pending else []), *later_turn(family, user, last, markers, opening)]


def _render(family: Family, messages: list[dict], opening: Opening) -> str:
    text = _rendered(family, messages, opening.thinking)
    open_thought = opening.given and text.rstrip().endswith(family.thought_marks[0])
    return _rendered(family, messages, False) if open_thought else text


def _rendered(family: Family, messages: list[dict], thinking: bool) -> str:
    options = {"tokenize": False, "add_generation_prompt": True, SWITCH: thinking}
    try:
        return family.tokenizer.apply_chat_template(messages, **options)
    except TemplateError as error:
        raise ModelError(f"the checkpoint's chat template fails ({error}): download it again") from None


def _encode(family: Family, text: str, begins: bool) -> list[int]:
    """Token ids of a rendered text, placeholders among them; one that `begins` may get a BOS."""
    ids = family.control_tokens.encode
    if not family.encodes_apart:
        return ids(text, begins)
    marks = "|".join(map(re.escape, family.markers.values()))
    first, *rest = re.split(f"({marks})", text)
    # sentencepiece sets its prefix space before a space too; `tokenizers` takes the one for the other
    space = " " if ids(" a", False) == ids("a", False) else ""
    tokens = ids(first, begins)
    for part in rest:
        tokens += ids(space + part if part.startswith(" ") else part, False)
    return tokens


def _shown(family: Family, text: str, markers: Markers) -> tuple[str, list[Slot]]:
    """A rendered text with each medium as it stands there, and whose each placeholder is.

    Raises:
        ModelError: the template has placed other media than there are.
    """
    kinds = {marker: kind for kind, marker in family.markers.items()}
    placed: dict[str, int] = dict.fromkeys(kinds.values(), 0)
    slots: list[Slot] = []

    def shown(match: re.Match) -> str:
        kind = kinds[match.group()]
        index = placed[kind]
        placed[kind] += 1
        if index >= len(markers[kind]):
            return ""
        marker = markers[kind][index]
        parts = marker.count(family.placeholders[kind])
        slots.extend(Slot(kind, index, part) for part in range(parts))
        return marker

    text = re.sub("|".join(map(re.escape, kinds)), shown, text)
    asked = {kind: len(markers[kind]) for kind in placed}
    if placed != asked:
        raise ModelError(
            f"the checkpoint's chat template places {_counted(placed)} of {_counted(asked)}: "
            "download it again"
        )
    return text, slots


def _counted(counts: Mapping[str, int]) -> str:
    return " and ".join(f"{count} {kind}s" for kind, count in counts.items())


def _pieces(family: Family, ids: list[int], slots: Iterable[Slot]) -> list[Piece]:
    """Token ids cut at the placeholders, which are those of `slots`."""
    pieces: list[Piece] = []
    run: list[int] = []
    left, placeholders = iter(slots), set(family.placeholder_ids.values())
    for token in ids:
        if token not in placeholders:
            run.append(token)
            continue
        if run:
            pieces.append(run)
            run = []
        pieces.append(next(left))
    return [*pieces, run] if run else pieces
