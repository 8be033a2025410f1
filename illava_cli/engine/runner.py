"""A loaded model and one pass of it: encode, assemble, prefill, step."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from illava_cli.engine.answer import Answer
from illava_cli.engine.assemble import Row, Shown, assemble
from illava_cli.engine.closing import Room
from illava_cli.engine.generation import kept_counts, synchronize, trace_of
from illava_cli.engine.grammar import Grammars
from illava_cli.engine.progress import through_tower
from illava_cli.engine.request import Slot, Turn
from illava_cli.engine.sampling import chosen, likeliest
from illava_cli.errors import Cancelled, ContextError, OutOfMemory, UsageError
from illava_cli.models import decoder
from illava_cli.models.cache import MergeCache
from illava_cli.models.encoder import encode
from illava_cli.models.family import Family
from illava_cli.models.graphs import StepGraphs
from illava_cli.models.guide import Guide
from illava_cli.models.host import to_device
from illava_cli.models.media import Features
from illava_cli.models.schedule import KINDS, Schedule
from illava_cli.trace import DecoderTrace, Trace

OFF = {kind: Schedule() for kind in KINDS}
WITHIN = "a question cannot be asked from within on_text: ask it after the answer"
UNASKED = "the question was cancelled before the first word of its answer"


class Runner:
    """A loaded model, with which one batch is computed at a time."""

    def __init__(self, family: Family, load_seconds: float = 0.0):
        self.family, self.load_seconds = family, load_seconds
        self.graphs = StepGraphs(family) if family.compiled and family.device.type == "cuda" else None
        self.guides: dict[tuple[str, str], Guide] = {}  # by checkpoint, of all sessions on this model
        self.grammars = Grammars(family)  # likewise
        self._steps_cache = self.new_cache()
        self._lock = threading.Lock()
        self._encoding = threading.Lock()  # one at a time: a layer of the tower records for whoever runs it
        self._driver: int | None = None  # the thread that computes now

    @property
    def context_length(self) -> int:
        """Tokens that the decoder was made for."""
        return self.family.text_config.max_position_embeddings

    def new_cache(self) -> MergeCache:
        """A cache without rows."""
        layers = self.family.layers
        return MergeCache(len(layers.blocks), layers.linear, layers.borrowing)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One batch at a time: wait for the one that runs; refuse one from within its answer."""
        self.refuse_within()
        self.begin()
        try:
            with self.driven(), out_of_memory_in_one_line():
                yield
        finally:
            self.end()

    def begin(self) -> None:
        """Begin a batch, when the one that runs has its end. Another thread may end it."""
        self._lock.acquire()
        self._steps_cache.clear()  # of a batch that was given up

    def end(self) -> None:
        """End a batch."""
        self._lock.release()

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Meanwhile this thread is the one that computes."""
        self._driver = threading.get_ident()
        try:
            yield
        finally:
            self._driver = None

    def refuse_within(self) -> None:
        """Refuse what is asked from within an answer, which would wait for itself."""
        if self._driver == threading.get_ident():
            raise UsageError(WITHIN)

    def size(self, turn: Turn) -> int:
        """Tokens that a turn and an answer to it may take in the first layer's cache, from sizes alone."""
        rounds = [*turn.earlier, turn]
        text = sum(len(one.spoken) + len(one.given) for one in rounds)
        slots = [(one, slot) for one in rounds for slot in one.prepared.slots]
        media = sum(self._tokens(*one) or self._tokens(*one, unmerged=True) for one in slots)
        asked = turn.past.cache.get_seq_length() if turn.past is not None else 0
        asked += text + media
        return asked + min(turn.config.generation.max_tokens, max(1, self.context_length - asked))

    def _tokens(self, turn: Turn, slot: Slot, unmerged: bool = False) -> int:
        """Decoder tokens of a medium, from its size alone; 0 where its method finds its own number."""
        medium, rules = turn.prepared.slots[slot], turn.rules
        if medium.features is not None:
            return len(medium.features.embeds)
        schedule = Schedule() if unmerged else rules.schedule(medium.pixels)
        tokens = self.family.tokens(medium.pixels, schedule)
        return 0 if tokens is None else tokens.total

    def batch_cache(self) -> MergeCache:
        """A cache for steps, without rows: where steps are recorded always the same, whose memory stays."""
        return self.new_cache() if self.graphs is None else self._steps_cache

    # --- a pass -----------------------------------------------------------------------------------

    @torch.inference_mode()
    def encode(self, turns: Sequence[Turn]) -> None:
        """Give each turn the features of its media; each different medium goes through the tower once.

        It may be done ahead, in a thread beside the passes: a turn that has them is passed over.
        """
        with self._encoding:
            turns = [turn for turn in turns if not turn.began]
            if turns:
                self._encode(turns)

    def _encode(self, turns: Sequence[Turn]) -> None:
        clock = time.perf_counter()
        slots = [one for turn in turns for one in turn.prepared.slots.values()]
        rules = turns[0].rules
        found: dict[str, Features] = {}
        for one in slots:
            # what was prepared long ago may have been encoded since
            kept = one.features or (None if turns[0].trace else rules.features.get(one.key))
            if kept is not None:
                found[one.key] = kept
        new = {one.key: one.pixels for one in slots if one.key not in found}
        if new:
            schedules = [rules.schedule(pixels) for pixels in new.values()]
            with through_tower(list(new.values()), turns) as media:
                encoded = encode(self.family, media, schedules, trace=turns[0].trace)
            found |= zip(new, encoded, strict=True)
        for key in new:
            rules.features.put(key, found[key])
        for key, one in found.items():
            if rules.fixed(one):
                found[key] = replace(one, rankable=torch.zeros_like(one.rankable), candidates=0)
        synchronize(self.family.device)
        seconds = time.perf_counter() - clock
        for turn in turns:
            own = [one.key for one in turn.prepared.slots.values()]
            turn.features = [found[key] for key in own]
            turn.began, turn.vision_s = clock, seconds
            turn.reused = sum(key not in new for key in own)
            turn.notes += rules.notes([found[key] for key in own])

    def _row(self, turn: Turn, cached: int) -> Row:
        """A turn's prompt, its media in their places, behind `cached` tokens."""
        by_slot = dict(zip(turn.prepared.slots, turn.features, strict=True))
        parts = [
            part if isinstance(part, list) else Shown(part.medium, by_slot[part.medium])
            for part in turn.parts
        ]
        turn.prompt_tokens = len(turn.spoken) + sum(len(one.embeds) for one in turn.features)
        taken, asked = cached + turn.prompt_tokens, turn.config.generation.max_tokens
        room = Room.of(self.context_length, asked, taken)
        return Row(parts, turn.past.position if turn.past is not None else 0, room)

    @torch.inference_mode()
    def prefill(
        self, turns: Sequence[Turn], cache: MergeCache, chunk: int | None = None
    ) -> Generator[None, None, list[Answer]]:
        """Turns of one decoder schedule into the rows of a cache, up to each answer's first token.

        Pauses where others may take a step. Several turns begin in an empty cache; one that continues a
        conversation comes alone, with that one's cache. A row serves all answers to its turn.

        Args:
            chunk: tokens of a prompt that go through the decoder at a time; None: all.

        Raises:
            ContextError: a prompt does not fit.
            MergeError: a reduction did not happen as scheduled.
            Cancelled: nobody waits for any of them any more.
        """
        refuse_cancelled(turns)
        if turns[0].continues:
            past = turns[0].past
            past.back(turns[0].rounds)  # a former try may have come as far as anywhere
            turns[0].cached_tokens = cache.get_seq_length()
            for earlier in turns[0].earlier:
                yield from self._read([earlier], cache, chunk)
                past.end_round(earlier.leading, earlier.spoken, earlier.given, len(earlier.given))
        hidden_states, limits, traces = yield from self._read(turns, cache, chunk)
        family = self.family
        logits = family.logits(hidden_states)
        rows = [row for row, turn in enumerate(turns) for _ in range(turn.answers)]
        answers = []
        for row, turn in enumerate(turns):
            said = turn.past.said if turn.past is not None else []
            about = {
                "prompt": [*said, *turn.spoken],
                "trace": traces[row],
                "logits": logits[row].cpu() if turn.logits else None,
            }
            for stream in range(turn.answers):
                ends = family.end_ids
                answers.append(Answer(turn, family.tokenizer, limits[row], ends, stream=stream, **about))
        self._choose(logits[rows] if len(rows) > len(turns) else logits, answers)
        return answers

    def _read(
        self, turns: Sequence[Turn], cache: MergeCache, chunk: int | None
    ) -> Generator[None, None, tuple[Tensor, list[int], list[Trace | None]]]:
        """Media and prompts of turns into the rows of a cache.

        Returns:
            (B, C) of each row's last token, how long each answer may be, and what was kept of its way.
        """
        refuse_cancelled(turns)
        for turn in turns:
            self.check_room(turn, cache.get_seq_length())
        self.encode(turns)
        yield
        refuse_cancelled(turns)
        family, first, cached = self.family, turns[0], cache.get_seq_length()
        schedule = leading_schedule(first)
        traced = DecoderTrace(watched=first.trace == "attention") if first.trace else None
        new, where = assemble(
            family,
            [self._row(turn, cached) for turn in turns],
            dict(schedule.decoder),
            packed=schedule.packed and family.rope_axes == 1,
            scope=schedule.scope,
            trace=traced,
        )
        for turn, (unclosed, closed) in zip(turns, new.reach, strict=True):
            if closed < unclosed:
                turn.notes.append(f"positions were closed up from {unclosed} to {closed} for the context")
        limits = [self._limit(*one, cached) for one in zip(turns, new.next_position, strict=True)]
        hidden_states, prompt = yield from decoder.prefill(family.layers, new, cache, chunk)
        traces = [
            trace_of(family, turn, new.kinds, own, traced) for turn, own in zip(turns, where, strict=True)
        ]
        for turn, kept in zip(turns, kept_counts(prompt.kinds), strict=True):
            turn.kept = kept
        return hidden_states, limits, traces

    @torch.inference_mode()
    def step(self, cache: MergeCache, answers: Sequence[Answer]) -> None:
        """A token more for each row of a cache.

        Raises:
            MergeError: a layer took no token.
        """
        family, newest = self.family, [answer.tokens[-1] for answer in answers]
        if self.graphs is not None:
            logits = self.graphs.step(newest, cache)
        else:
            embeds = family.embed(to_device(newest, family.device)[:, None])
            logits = family.logits(decoder.step(family.layers, embeds, cache))
        self._choose(logits, answers)

    def _choose(self, logits: Tensor, answers: Sequence[Answer]) -> None:
        tokens = chosen(logits, [answer.sampler for answer in answers], self.family.unspoken)
        told = likeliest(logits, tokens, [answer.turn.config.generation.logprobs for answer in answers])
        for answer, token, logprobs in zip(answers, tokens, told, strict=True):
            answer.put(token, logprobs)

    def _limit(self, turn: Turn, position: int, cached: int) -> int:
        """How many tokens an answer may have.

        Args:
            position: where the answer begins.
            cached: tokens in the first layer's cache.

        Raises:
            ContextError: the prompt alone does not fit.
        """
        asked = turn.config.generation.max_tokens
        used = max(cached + turn.prompt_tokens, position)
        self._refuse_too_long(used)
        room = self.context_length - used
        if room < asked:
            turn.notes.append(f"the context leaves room for {room} of the {asked} tokens asked for")
        return min(room, asked)

    def check_room(self, turn: Turn, cached: int) -> None:
        """Refuse a prompt for which the context has no room, before the tower sees its media.

        Args:
            cached: tokens in the first layer's cache.

        Raises:
            ContextError: it is too long.
        """
        tokens = len(turn.spoken) + sum(self._tokens(turn, slot) for slot in turn.prepared.slots)
        self._refuse_too_long(cached + tokens)

    def _refuse_too_long(self, tokens: int) -> None:
        if tokens >= self.context_length:
            raise ContextError(
                f"the prompt has {tokens} tokens, the model's context is {self.context_length}: "
                "use fewer frames (--num-frames), a budget for each video (--video-budget), fewer tiles "
                "(--max-tiles), pixels (--max-pixels) or images, or a shorter text"
            )


def refuse_cancelled(turns: Sequence[Turn]) -> None:
    """Spend no time on turns that were all cancelled."""
    if all(turn.is_cancelled for turn in turns):
        raise Cancelled(UNASKED)


def leading_schedule(turn: Turn) -> Schedule:
    """The schedule that the decoder follows: that of a conversation's first media."""
    has_media = bool(turn.prepared.slots)
    return turn.rules.schedules[turn.leading] if has_media and turn.rules.schedules else Schedule()


@contextmanager
def out_of_memory_in_one_line() -> Iterator[None]:
    """What PyTorch says in many."""
    try:
        yield
    except RuntimeError as error:
        # a CPU's allocator has no error of its own
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(
            "out of memory: use fewer frames or tiles, a preset that merges more (--dtype bfloat16: half)"
        ) from None
