"""A request on its way: its media are read, it is answered in passes that all share, its cache is kept."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from illava_cli.engine import prompt as prompts
from illava_cli.engine.answer import Answer
from illava_cli.engine.generation import generation_of, told_logprobs
from illava_cli.engine.passes import Passes
from illava_cli.engine.past import Past
from illava_cli.engine.record import Generation
from illava_cli.engine.request import Prepared, Request, Turn
from illava_cli.engine.room import cache_tokens
from illava_cli.engine.runner import out_of_memory_in_one_line
from illava_cli.engine.scheduler import Scheduler
from illava_cli.engine.session import Session
from illava_cli.errors import Timeout, UsageError
from illava_cli.openai.asked import Asked
from illava_cli.openai.errors import RequestError
from illava_cli.readers.job import Job, Media
from illava_cli.serve.conversations import Conversations, Said
from illava_cli.serve.maps import Maps, drawn_map
from illava_cli.serve.metrics import Metrics
from illava_cli.serve.reading import ReaderPool
from illava_cli.serve.sessions import Sessions
from illava_cli.serve.settings import ServeOptions
from illava_cli.serve.trimming import Trimming

logger = logging.getLogger("illava.serve")

HELD_BYTES = 1 << 30  # decoded media of all requests: beyond it no more are read
RETRY_S = 1.0
ENDING_S = 30.0  # for answers that nobody waits for to end with their token, when the server ends


@dataclass(frozen=True)
class Piece:
    """A piece of one of the answers to a request."""

    index: int
    text: str
    logprobs: list[dict[str, Any]] | None


@dataclass(frozen=True)
class Answered:
    """The answers to a request, and the name of the merge map that was drawn."""

    generations: list[Generation]
    map: str | None = None


class Service:
    """Answers requests; all of it runs in one event loop, but for what says otherwise."""

    def __init__(self, session: Session, options: ServeOptions, metrics: Metrics):
        self.options, self.metrics = options, metrics
        tokens = options.cache_tokens or cache_tokens(session.family)
        self.passes = Passes(session.runner, options.rows, options.chunk, tokens, logger.warning)
        self.session = replace(session, passes=self.passes)
        self.sessions = Sessions(self.session)
        self.conversations = Conversations(options.conversations_mb << 20)
        self.maps = Maps(options.maps_mb << 20)
        self.pool = ReaderPool(
            options.readers, session.family.frame_size, options.media_s, options.media_memory_mb
        )
        self._threads = ThreadPoolExecutor(2, "illava-prepare")
        self._trimming = Trimming()
        self.in_flight = 0
        self.draining = False
        self._computed: set[asyncio.Future] = set()  # what the passes have yet to end
        self._held = 0
        self._room = asyncio.Event()
        self._room.set()
        self.passes.on_pass = self._count_rows
        metrics.watch("in_flight", "Requests that are being answered or wait.", lambda: self.in_flight)
        metrics.watch("queue", "Questions that wait for a place in the batch.", lambda: self.passes.waiting)
        metrics.watch("rows", "Answers in the batch.", lambda: len(self.passes.scheduler.answers))
        metrics.watch("readers_busy", "Processes that read media.", lambda: self.pool.busy)
        metrics.watch("readers_waiting", "Turns whose media wait for one.", lambda: self.pool.waiting)
        metrics.watch("media_held_bytes", "Decoded media of requests.", lambda: self._held)
        metrics.watch("conversations_kept", "KV caches that may go on.", lambda: len(self.conversations))
        metrics.watch("conversations_bytes", "Memory of those.", lambda: self.conversations.bytes)

    def _count_rows(self, scheduler: Scheduler) -> None:
        if scheduler.stepped:
            self.metrics.rows.observe(scheduler.stepped)

    async def close(self) -> None:
        """End the readers."""
        self.draining = True
        self._trimming.wake()
        await self.pool.close()
        if self._computed:  # no thread computes while Python ends
            await asyncio.wait(self._computed, timeout=ENDING_S)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def answer(self, asked: Asked, owner: str, put: Callable[[Piece], None]) -> Answered:
        """The answers to a request. A task that is cancelled costs no more from then on.

        Args:
            owner: who asks, for conversations.
            put: called with each piece of the answers.

        Raises:
            RequestError: there are too many before it.
            Timeout: it takes too long.
            IllavaError: it cannot be answered.
        """
        limit = self.passes.scheduler.rows + self.options.queue
        if self.draining or self.in_flight >= limit:
            why = "the server is ending" if self.draining else f"{self.in_flight} requests come first"
            status = 503 if self.draining else 429
            raise RequestError(f"{why}: try again", code="overloaded", status=status, retry_after=RETRY_S)
        self.in_flight += 1
        self._trimming.wake()
        try:
            async with asyncio.timeout(self.options.request_s):
                return await self._answer(asked, owner, put)
        except TimeoutError:
            seconds = self.options.request_s
            raise Timeout(f"no answer within {seconds:g} s: ask for fewer tokens or smaller media") from None
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._trimming.rest()

    async def _answer(self, asked: Asked, owner: str, put: Callable[[Piece], None]) -> Answered:
        arrived = time.perf_counter()
        if asked.merge_map and asked.n > 1:
            raise UsageError("merge_map: a map is drawn of one answer: leave out n")
        session, said = await self._in_thread(self._begin, asked, owner)
        keys = said.keys
        # a map is drawn of media that are encoded anew
        past = self.conversations.take(keys) if keys and not asked.merge_map else None
        if keys:
            self.metrics.conversations.labels("yes" if past else "no").inc()
        past = past or Past(session.runner.new_cache())
        work = _Work(self, session, asked, said, past, put)
        with work.kept():
            media, prepared = None, []
            for number in range(past.rounds, len(asked.rounds)):
                media = await self._read(session, asked, number, work)
                prepared.append(await self._in_thread(work.prepare, number, media))
            self.metrics.reading.observe(time.perf_counter() - arrived)
            turn = await self._in_thread(work.turn, prepared)
        answers, generations = await work.answered(turn)
        now = time.perf_counter()
        read = sum(len(one.prepared.slots) for one in (*turn.earlier, turn))
        self.metrics.answered(generations, read, answers[0].first_at - arrived, now - arrived)
        if not asked.merge_map:
            return Answered(generations)
        prompt = asked.rounds[-1].prompt
        page = await self._in_thread(drawn_map, session, prompt, media.images, media.videos, generations[0])
        return Answered(generations, self.maps.put(page))

    def _begin(self, asked: Asked, owner: str) -> tuple[Session, Said]:
        """The session that is asked, and the conversation so far."""
        session = self.sessions.of(asked)
        config = session.config
        media = config.media.model_dump(mode="json")
        thinks = [True] if config.generation.thinking else []
        reduction = [session.reduction.model_dump(mode="json"), session.min_visual_tokens]
        return session, Said(asked, owner, media, reduction, config.generation.system, *thinks)

    async def _read(self, session: Session, asked: Asked, number: int, work: _Work) -> Media:
        """The media of a round, as soon as there is room for them."""
        round, options = asked.rounds[number], session.config.media
        # what cannot be asked is said before anything is read
        prompts.user_message(session.family, round.prompt, len(round.images), len(round.videos))
        if not round.images and not round.videos:
            return Media()
        if not work.holds:  # else all could wait for one another
            await self._room.wait()
        media = await self.pool.read(Job(round.images, round.videos, options, self.options.access))
        work.hold(media.nbytes)
        return media

    def computes(self, over: asyncio.Future) -> None:
        """Know of a turn until `over`."""
        self._computed.add(over)
        over.add_done_callback(self._computed.discard)

    def hold(self, nbytes: int) -> None:
        """Count decoded media that are held, or with a negative number are no longer."""
        self._held += nbytes
        if self._held < HELD_BYTES:
            self._room.set()
        else:
            self._room.clear()

    async def _in_thread(self, function: Callable, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


class _Work:
    """What one request holds on to: its media, its conversation, and the way to stop it."""

    def __init__(
        self, service: Service, session: Session, asked: Asked, said: Said, past: Past, put: Callable
    ):
        self.service, self.session, self.asked, self.past, self.put = service, session, asked, past, put
        self.said = said
        self.rounds = past.rounds  # that were found
        self.cancel = threading.Event()
        self.loop = asyncio.get_running_loop()
        self._held = 0
        self._pieces: deque[Piece] = deque()  # that the loop has not taken yet
        self._shown = [0] * asked.n  # log-probabilities that were told, by answer

    @property
    def holds(self) -> bool:
        """Whether it has media already."""
        return self._held > 0

    def hold(self, nbytes: int) -> None:
        self._held += nbytes
        self.service.hold(nbytes)

    def release(self) -> None:
        self.hold(-self._held)

    @contextmanager
    def kept(self):
        """Where the request fails within, its conversation is kept as it was."""
        try:
            yield
        except BaseException:
            self.cancel.set()
            self.release()
            self._put_back()
            raise

    def _put_back(self) -> None:
        """Keep the conversation as it was found."""
        self.service.conversations.put(self.said.keys[: self.rounds], self.past)

    # --- in other threads -------------------------------------------------------------------------

    def prepare(self, number: int, media: Media) -> Prepared:
        """A round's media as the tower takes them."""
        request = Request(self.asked.rounds[number].prompt, media.images, media.videos, self.asked.system)
        return self.session.prepare(request, fresh=self.asked.merge_map, cancel=self.cancel)

    def turn(self, prepared: list[Prepared]) -> Turn:
        """The last round as a turn, with those before it that are not in the cache yet."""
        asked, session, earlier = self.asked, self.session, ()
        for number, one in enumerate(prepared[:-1], self.rounds):
            given = session.given(asked.answers[number])
            earlier = (*earlier, session.turn(one, self.past, earlier=earlier, given=given))
        # who was shown nothing may begin again where memory runs out
        on_text = self._on_text if asked.stream else None
        options = {"answers": asked.n, "on_text": on_text, "cancel": self.cancel}
        trace = "attention" if asked.merge_map else False
        turn = session.turn(prepared[-1], self.past, earlier=earlier, trace=trace, **options)
        if session.family.device.type == "cpu" and not trace:
            # another core's part, beside the passes; a GPU has all of them in one queue
            for one in (*earlier, turn):
                session.runner.check_room(one, self.past.cache.get_seq_length())
                with out_of_memory_in_one_line():
                    session.runner.encode([one])
        return turn

    def _on_text(self, answer: Any, text: str) -> None:
        logprobs = None
        if answer.turn.config.generation.logprobs is not None:
            new = answer.logprobs[self._shown[answer.stream] :]
            self._shown[answer.stream] += len(new)
            logprobs = told_logprobs(new, self.session.family)
        self._pieces.append(Piece(answer.stream, text, logprobs))
        if len(self._pieces) == 1:  # else the loop is on its way: to wake it for each costs a pass a tenth
            self._soon(self._flush)

    def _flush(self) -> None:
        while self._pieces:
            self.put(self._pieces.popleft())

    def _soon(self, function: Callable, *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop has been closed: nobody waits
            self.loop.call_soon_threadsafe(function, *arguments)

    # --- the answer -------------------------------------------------------------------------------

    async def answered(self, turn: Turn) -> tuple[list, list[Generation]]:
        """Have the turn answered. When that has its end, whoever waits for it, its conversation is kept."""
        ended: asyncio.Future = self.loop.create_future()
        over: asyncio.Future = self.loop.create_future()

        def finish(answers: list, generations: list[Generation], error: Exception | None) -> None:
            over.set_result(None)
            self.release()
            self._keep(turn, answers, generations, error)
            if ended.done():
                return
            if error is not None:
                ended.set_exception(error)
            else:
                ended.set_result((answers, generations))

        def on_end(answers: list, error: Exception | None) -> None:
            generations: list[Generation] = []
            try:
                if error is None:
                    runner = self.session.runner
                    generations = [generation_of(one, runner.family, runner.load_seconds) for one in answers]
            except Exception as fault:
                error = fault
            self._soon(finish, answers, generations, error)

        self.service.computes(over)
        self.service.passes.submit(turn, on_end)
        try:
            return await ended
        except BaseException:
            self.cancel.set()
            raise

    def _keep(self, turn: Turn, answers: list, generations: list, error: Exception | None) -> None:
        past = self.past
        if error is None and self.asked.n == 1 and self._is_whole(answers[0]):
            past.end_round(turn.leading, turn.spoken, answers[0].tokens, pending=1)
            self.service.conversations.put(self.said.whole(generations[0].text), past)
        else:
            past.back(self.rounds)
            self._put_back()

    def _is_whole(self, answer: Answer) -> bool:
        """Whether its text is what the cache holds: a stop string or a stop token cuts it."""
        ends = self.session.family.end_ids
        cut = answer.text.stopped or answer.tokens[-1] in answer.end_ids - ends
        return answer.finish_reason is not None and not cut
