"""The answer to one question, and its JSON record: the contract with every script that reads us."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, field
from typing import Any


def new_id() -> str:
    """An id for a question that came without one."""
    return uuid.uuid4().hex[:12]


@dataclass(frozen=True)
class MediaRecord:
    """What was really read: size in square pixels after orientation, and a video's frames.

    `frames` are their indices, `times` when each is shown in seconds, as `--start` counts (none for frames
    given as pictures). `crops` are the regions that the tower was shown of an image, or of each frame, where
    a guide chose them: left, top, right, bottom in pixels.
    """

    source: str
    kind: str
    width: int
    height: int
    frames: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    crops: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class VisualUsage:
    """Visual tokens at each stage; row newlines are counted apart.

    `patches` enter the vision tower and `vision_kept` leave it (both before patches are joined, where they
    are), `llm_in` image tokens enter the decoder, `llm_kept` remain after its last merge layer. Without
    any reduction `unmerged` tokens would enter the decoder, newlines among them. `left_out` are the patches
    that did not enter the tower, as neighbours or other frames tell what they show. Of videos `frames_in`
    frames were taken, or temporal patches of two, and the tokens of `frames_kept` leave the tower.
    """

    patches: int = 0
    vision_kept: int = 0
    llm_in: int = 0
    llm_kept: int = 0
    newlines_in: int = 0
    newlines_kept: int = 0
    unmerged: int = 0
    left_out: int = 0
    frames_in: int = 0
    frames_kept: int = 0


@dataclass(frozen=True)
class Usage:
    """Tokens: the prompt's as they enter the decoder (visual ones included), and the answer's.

    `cached_tokens` of the conversation before were in the KV cache already; the prompt's come after them.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    visual: VisualUsage = VisualUsage()
    cached_tokens: int = 0


@dataclass(frozen=True)
class Timings:
    """Seconds. `ttft_s` runs from the question to its first token, reading of media included."""

    load_s: float = 0.0
    media_s: float = 0.0
    vision_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    ttft_s: float = 0.0


@dataclass(frozen=True)
class Generation:
    """One answer. `record()` is its JSON form; `trace` holds the merges where they were asked for."""

    text: str
    finish_reason: str | None
    model: str
    preset: str
    seed: int
    config_hash: str
    media: tuple[MediaRecord, ...] = ()
    usage: Usage = Usage()
    timings: Timings = Timings()
    peak_bytes: int = 0
    media_reused: int = field(default=0, compare=False)  # that an earlier question had had encoded
    id: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[dict[str, Any], ...] | None = None  # by token, where they were asked for
    notes: tuple[str, ...] = ()
    trace: Any = None
    logits: Any = None  # (vocabulary,) of the first token, where they were asked for

    def record(self) -> dict[str, Any]:
        """The record of one answer, ready for `json.dumps`."""
        record = {
            "id": self.id,
            "status": "ok",
            "text": self.text,
            "finish_reason": self.finish_reason,
            "error": None,
            "model": self.model,
            "preset": self.preset,
            "seed": self.seed,
            "config_hash": self.config_hash,
            "media": [asdict(m) for m in self.media],
            "usage": asdict(self.usage),
            "timings": {name: round(value, 4) for name, value in asdict(self.timings).items()},
            "memory": {"peak_bytes": self.peak_bytes, "media_reused": self.media_reused},
        }
        for medium in record["media"]:
            if medium["kind"] == "image":
                del medium["frames"], medium["times"]
            if not medium["crops"]:
                del medium["crops"]
        if self.logprobs is not None:
            record["logprobs"] = list(self.logprobs)
        if self.notes:
            record["notes"] = list(self.notes)
        return record


def error_record(
    error: BaseException,
    *,
    id: str = "",
    model: str = "",
    preset: str = "",
    seed: int = 0,
    config_hash: str = "",
) -> dict[str, Any]:
    """The record of a question that failed: every field of an answer's, and the error."""
    blank = Generation("", None, model, preset, seed, config_hash, id=id or new_id())
    reason = {"type": type(error).__name__, "message": str(error)}
    return blank.record() | {"status": "error", "error": reason}
