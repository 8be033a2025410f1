"""A conversation with a session: its KV cache, its messages, and how a turn is cancelled."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from illava_cli.engine import prompt as prompts
from illava_cli.engine.record import Generation
from illava_cli.engine.request import Request, Turn
from illava_cli.engine.stream import Watcher
from illava_cli.trace import Tracing

if TYPE_CHECKING:
    from illava_cli.engine.session import Session


class Chat:
    """A conversation. Media are merged once, in the turn in which they arrive."""

    def __init__(self, session: Session, system: str | None = None):
        self.session = session
        self.system = system if system is not None else session.config.generation.system
        self.clear()

    def clear(self) -> None:
        """Forget the conversation, not the model."""
        self.messages: list[dict[str, Any]] = []
        self.cache = self.session._new_cache()
        self._pending: list[int] = []

    @property
    def cached_tokens(self) -> int:
        """Tokens in the first layer's cache."""
        return self.cache.get_seq_length()

    @property
    def context_used(self) -> int:
        """How much of the model's context the conversation takes up."""
        position = self.cache.next_position
        return max(self.cached_tokens, 0 if position is None else int(position))

    def ask(
        self,
        prompt: str,
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        *,
        on_text: Callable[[str], None] | None = None,
        cancel: threading.Event | None = None,
        id: str = "",
        trace: Tracing = False,
        logits: bool = False,
    ) -> Generation:
        """The next turn; arguments as for `Session.ask`.

        A turn that fails leaves the conversation as it was.
        """
        session = self.session
        request = Request(prompt, images, videos, self.system, id)
        counts = request.counts
        user = prompts.user_message(session.family, prompt, *counts)
        if self.messages:
            last = self._pending[-1] if self._pending else None
            parts = prompts.later_turn(session.family, user, last, *counts)
        else:
            parts = prompts.first_turn(session.family, user, self.system, *counts)

        def answer() -> tuple[list[Generation], Watcher]:
            with session._exclusive():
                turn = Turn(session.prepare(request, fresh=bool(trace), cancel=cancel), parts)
                if trace and not self.messages:
                    turn.system_tokens = prompts.leading_tokens(session.family, parts, self.system)
                start = int(self.cache.next_position) if self.cache.next_position is not None else 0
                options = {"on_text": on_text, "cancel": cancel, "trace": trace, "logits": logits}
                return session._answer([turn], self.cache, [start], pending=self._pending, **options)

        before = self.cache.snapshot()
        try:
            generations, watcher = in_thread(answer, cancel) if on_text or cancel else answer()
        except BaseException:
            self.cache.restore(before)
            raise
        # the last token was chosen but never fed back: it opens the next turn
        self._pending = watcher.tokens[0][-1:]
        sources = [[m.source for m in generations[0].media if m.kind == kind] for kind in ("image", "video")]
        self.messages += [
            {"role": "user", "content": prompt, "images": sources[0], "videos": sources[1]},
            {"role": "assistant", "content": generations[0].text, "images": [], "videos": []},
        ]
        return generations[0]


def in_thread(work: Callable[[], Any], cancel: threading.Event | None) -> Any:
    """Run `work` beside the caller's thread, which stays open to Ctrl-C; an interrupt cancels the work."""
    done: queue.Queue = queue.Queue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    thread = threading.Thread(target=run, name="illava-generate", daemon=True)
    thread.start()
    while True:
        try:
            result, error = done.get(timeout=0.1)
            break
        except queue.Empty:
            continue
        except KeyboardInterrupt:
            if cancel is None or cancel.is_set():
                thread.join()  # what it does to the cache is undone when it is done
                raise
            cancel.set()
    thread.join()
    if error is not None:
        raise error
    return result
