"""The messages of a conversation -> the user's turns, and what was answered to them."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Any

from illava_cli.engine.markers import KINDS, interleaved
from illava_cli.openai.asked import Bounds, Round
from illava_cli.openai.fields import given, kind, one_of, refused
from illava_cli.openai.parts import Contents, Part

SYSTEM = ("system", "developer")
ROLES = (*SYSTEM, "user", "assistant")
# what an answer has beside its content when it is sent back, and what says nothing to a model
IGNORED = ("id", "type", "name", "status", "phase", "annotations", "reasoning", "reasoning_content")
NEUTRAL = ("refusal", "audio", "function_call", "tool_calls")  # where they are empty


class Conversation:
    """A request's messages: `system`, `rounds` and `answers` as in `Asked`.

    Consecutive messages of one role are one; their texts stand on lines of their own. `details` are those
    that were asked for of its images.
    """

    def __init__(self, messages: Any, at: str, bounds: Bounds, system: str | None = None):
        """
        Args:
            at: the place of the messages in the body.
            system: a system prompt that comes before theirs.

        Raises:
            RequestError: messages that are no conversation that ends with the user's, or that hold what is
                not read; names the place.
        """
        if not isinstance(messages, list) or not messages:
            found = "an empty one" if messages == [] else kind(messages)
            refused(at, f"must be a list of messages, not {found}")
        contents = Contents(bounds)
        said = [self._message(message, f"{at}[{i}]", contents) for i, message in enumerate(messages)]
        groups = [(role, list(group)) for role, group in groupby(said, key=itemgetter(0))]
        prompts = [contents.fitting(system, "instructions")] if system is not None else []
        if groups[0][0] == "system":
            prompts.append(_texts(groups.pop(0)[1]))
        self.system = "\n".join(prompts) if prompts else None
        self._check_order(groups, at)
        self.rounds = tuple(_round(group) for role, group in groups if role == "user")
        self.answers = tuple(_texts(group) for role, group in groups if role == "assistant")
        self.details = contents.details
        last = groups[-1][1]
        if not any(kind == "text" and value.strip() for _, parts, _ in last for kind, value in parts):
            refused(f"{last[-1][2]}.content", "asks nothing: the last message of the user has no text")

    @staticmethod
    def _message(message: Any, at: str, contents: Contents) -> tuple[str, list[Part], str]:
        if not isinstance(message, dict):
            refused(at, f"must be an object with a role and a content, not {kind(message)}")
        role = message.get("role")
        if role in ("tool", "function"):
            refused(f"{at}.role", f"messages of role {role} are not answered: the model calls no tools")
        role = one_of(role, f"{at}.role", ROLES)
        fields = given(message, at, ["role", "content"], [*IGNORED, *NEUTRAL])
        for name in NEUTRAL:
            if fields.get(name):
                refused(f"{at}.{name}", "is not supported: leave it out")
        if "content" not in fields:
            refused(f"{at}.content", "is missing: give a text or a list of parts")
        parts = contents.read(fields["content"], f"{at}.content", media=role == "user")
        return "system" if role in SYSTEM else role, parts, at

    @staticmethod
    def _check_order(groups: list[tuple[str, list]], at: str) -> None:
        for role, group in groups:
            if role == "system":
                refused(f"{group[0][2]}.role", "system messages come at the beginning")
        if not groups:
            refused(at, "asks nothing: there is no message of the user's")
        if groups[0][0] == "assistant":
            refused(f"{groups[0][1][0][2]}.role", "a conversation begins with the user's message")
        if groups[-1][0] == "assistant":
            refused(
                f"{groups[-1][1][-1][2]}.role",
                "the last message must be the user's: no answer is gone on with",
            )


def _joined(group: list[tuple[str, list[Part], str]]) -> list[Part]:
    """The parts of consecutive messages; a line ends where two texts of two messages meet."""
    joined: list[Part] = []
    for _, parts, _ in group:
        if joined and parts and joined[-1][0] == parts[0][0] == "text":
            joined.append(("text", "\n"))
        joined += parts
    return joined


def _texts(group: list[tuple[str, list[Part], str]]) -> str:
    return "".join(value for _, value in _joined(group))


def _round(group: list[tuple[str, list[Part], str]]) -> Round:
    parts = _joined(group)
    images, videos = (tuple(value for kind, value in parts if kind == wanted) for wanted in KINDS)
    return Round(interleaved(parts), images, videos)
