"""One question of an evaluation: what every task, built in or a user's own, is reduced to."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EvalSample:
    """A question about media and its right answer.

    `images` are PIL images or paths. Each entry of `videos` is a path, a tuple of PIL frames, or an array
    (T, H, W, 3) of uint8. `choices`, where given, are all the answers that may be given, `answer` among them.
    `answer` is None where the right one is not known.
    """

    id: str
    task: str
    prompt: str
    answer: str | None
    choices: tuple[str, ...] | None = None
    images: tuple[Any, ...] = ()
    videos: tuple[Any, ...] = ()
