"""`/save`: a conversation as JSON for programs, or as text for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from illava_cli.cli.output import write_file
from illava_cli.errors import UsageError
from illava_cli.text import json_text

if TYPE_CHECKING:
    from illava_cli.engine.record import Generation
    from illava_cli.engine.session import Chat, Session

SPEAKERS = {"user": "You", "assistant": "Answer", "system": "System"}


def save(path: Path, session: Session, chat: Chat, answers: list[Generation]) -> None:
    """Writes the conversation to `path`, in the form that its extension names.

    Raises:
        UsageError: an extension that names no form.
        OutputError: the file could not be written; an older one is as it was.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UsageError(f"/save {path}: the name must end in {', '.join(WRITERS)}")
    write_file(path, writer(session, chat, answers))


def _json(session: Session, chat: Chat, answers: list[Generation]) -> str:
    conversation: dict[str, Any] = {
        "model": session.config.model.id,
        "preset": session.config.preset,
        "config_hash": session.config.hash(),
        "system": chat.system,
        "messages": chat.messages,
        "records": [answer.record() for answer in answers],
    }
    return json_text(conversation, indent=2) + "\n"


def _markdown(session: Session, chat: Chat, answers: list[Generation]) -> str:
    blocks = [f"# Conversation with {session.config.model.id}", f"Preset: {session.config.preset}"]
    for speaker, media, text in _turns(chat):
        blocks += [f"**{speaker}**", *(f"- {kind}: `{source}`" for kind, source in media), text]
    return "\n\n".join(blocks) + "\n"


def _plain(session: Session, chat: Chat, answers: list[Generation]) -> str:
    blocks = [f"Conversation with {session.config.model.id}, preset {session.config.preset}"]
    for speaker, media, text in _turns(chat):
        attached = "".join(f"[{kind} {source}] " for kind, source in media)
        blocks.append(f"{speaker}: {attached}{text}")
    return "\n\n".join(blocks) + "\n"


def _turns(chat: Chat) -> list[tuple[str, list[tuple[str, str]], str]]:
    """(speaker, [(kind, source)], text) of every message, the system prompt first."""
    turns = []
    if chat.system and not any(message["role"] == "system" for message in chat.messages):
        turns.append((SPEAKERS["system"], [], chat.system))
    for message in chat.messages:
        media = [("image", source) for source in message.get("images", ())]
        media += [("video", source) for source in message.get("videos", ())]
        turns.append((SPEAKERS.get(message["role"], message["role"]), media, message["content"]))
    return turns


WRITERS = {".json": _json, ".md": _markdown, ".txt": _plain}
