"""One question from the command line: what is asked about which media, once or with merging off and on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from illava_cli.cli.output import emit
from illava_cli.errors import UsageError
from illava_cli.interrupts import Interrupts
from illava_cli.text import decoded, unix

if TYPE_CHECKING:
    from illava_cli.config.settings import Config
    from illava_cli.engine.clock import LayerClock
    from illava_cli.engine.record import Generation
    from illava_cli.engine.session import Session
    from illava_cli.evals.pair import Pair

STDIN = "-"  # as `media.sources` has it, which is imported when there are media


@dataclass(frozen=True)
class Question:
    """What is asked about which media."""

    prompt: str
    images: Sequence[Any]
    videos: Sequence[Any]

    @staticmethod
    def of(prompt: str | None, images: list[str] | None, videos: list[str] | None) -> Question:
        """As the flags have it; the prompt may be piped in, and globs become files."""
        images, videos = images or [], videos or []
        return Question(read_prompt(prompt, [*images, *videos]), _expand(images), _expand(videos))

    def held(self, seconds: float | None) -> Question:
        """With media that can be read several times: stdin, pipes and downloads are taken into memory.

        Args:
            seconds: that each may take.
        """
        from illava_cli.media import locate, name_of, within

        def hold(source: Any) -> Any:
            return within(lambda: locate(source), name_of(source), seconds)

        return Question(self.prompt, [*map(hold, self.images)], [*map(hold, self.videos)])


def read_prompt(prompt: str | None, sources: list[str]) -> str:
    """The question, from the flag or from piped stdin, of which there is only one."""
    uses = sources.count(STDIN) + (prompt == STDIN)
    if uses > 1:
        raise UsageError("- (stdin) can stand for one input only: name files for the others")
    if prompt == STDIN or (prompt is None and uses == 0 and _is_piped()):
        prompt = _piped_prompt()
    if prompt is None or not prompt.strip():
        raise UsageError("a prompt is required: give --prompt TEXT, or pipe it in")
    return prompt.rstrip("\r\n")


def _piped_prompt() -> str:
    if sys.stdin is None:
        return ""
    try:
        return unix(decoded(sys.stdin.buffer.read(), "the prompt on stdin"))
    except UsageError as error:
        raise UsageError(f"{error}: give media with --image or --video") from None


def _is_piped() -> bool:
    return sys.stdin is not None and not sys.stdin.isatty()


def _expand(sources: list[str] | None) -> list[str]:
    if not sources:
        return []
    from illava_cli.media import expand_sources

    return expand_sources(sources)


def check_greedy(config: Config) -> None:
    """Refuse to compare answers that are drawn.

    Raises:
        UsageError: a temperature.
    """
    if config.generation.temperature > 0:
        raise UsageError("--compare compares greedy answers: leave temperature at 0, or compare nothing")


def ask(
    session: Session, question: Question, on_text: Callable[[str], None] | None = None, **options: Any
) -> Generation:
    """One answer.

    Raises:
        KeyboardInterrupt, Terminated: it was stopped.
    """
    with Interrupts() as interrupts:
        answer = session.ask(
            question.prompt,
            images=question.images,
            videos=question.videos,
            on_text=on_text,
            cancel=interrupts.stop,
            **options,
        )
    if interrupts.stop.is_set():
        if on_text is not None:
            emit("\n")
        raise interrupts.ending()
    return answer


def ask_both(session: Session, question: Question, clock: LayerClock | None = None, id: str = "") -> Pair:
    """The answer with merging off and on."""
    from illava_cli.evals import pair

    options = {"clock": clock, "id": id}
    with Interrupts() as interrupts:
        return pair.ask_both(
            session, question.prompt, question.images, question.videos, cancel=interrupts.stop, **options
        )
