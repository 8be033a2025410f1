"""A configuration on a loaded model: media and prompts in, `Generation`s out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from illava_cli.config.settings import Config
from illava_cli.config.stages import Reduction
from illava_cli.engine import prompt as prompts
from illava_cli.engine.chat import Chat, told
from illava_cli.engine.features import FeatureCache
from illava_cli.engine.generation import generation_of, reset_peak, unanswered
from illava_cli.engine.markers import replaced
from illava_cli.engine.media import Guidance, MediaReader
from illava_cli.engine.passes import Passes
from illava_cli.engine.past import Past
from illava_cli.engine.record import Generation
from illava_cli.engine.request import Prepared, Progress, Request, Turn
from illava_cli.engine.resolved import changed, documents_of, guide_of, least_tokens, planned
from illava_cli.engine.rules import BEFORE_DECODER, Documents, Rules
from illava_cli.engine.runner import UNASKED, Runner
from illava_cli.engine.scheduler import Scheduler
from illava_cli.engine.stream import AsyncStream, Stream
from illava_cli.errors import Cancelled, UsageError
from illava_cli.models.family import Family
from illava_cli.models.guide import Guide
from illava_cli.models.schedule import Schedule
from illava_cli.trace import Tracing


def under(passes: Passes, config: Config, on_note: Callable[[str], None], features: FeatureCache) -> Session:
    """A session on a loaded model.

    Raises:
        UsageError: a schedule that the model cannot run, or thoughts that it cannot be asked for.
    """
    reduction, schedules = planned(passes.runner.family, config, on_note)
    guide = guide_of(passes.runner, schedules, on_note)
    about = least_tokens(config), guide, features, documents_of(passes.runner.family, config)
    return Session(passes, config, reduction, schedules, *about, on_note=on_note)


@dataclass(frozen=True, eq=False)
class Session:
    """A loaded model under one configuration; answers questions, alone, in batches and in chats.

    It is a value: another configuration is another session, on the same model.

    Args:
        passes: the batch that all share who ask the model.
        reduction: the preset's for this model, with what the configuration changes.
        schedules: of each kind of medium.
        min_visual_tokens: media of fewer are left whole.
        guide: the checkpoint that chooses frames and regions by the prompt, if the schedule has one do so.
        features: encoded media.
        documents: how pictures are taken that neighbours predict, if apart from others.
        merging: whether anything is reduced.
    """

    passes: Passes
    config: Config
    reduction: Reduction
    schedules: Mapping[str, Schedule]
    min_visual_tokens: int
    guide: Guide | None
    features: FeatureCache
    documents: Documents | None = None
    merging: bool = True
    on_note: Callable[[str], None] = field(default=lambda text: None, repr=False)

    # --- what a session is ----------------------------------------------------------------------

    @property
    def rules(self) -> Rules:
        """What it does to media."""
        reduction = self.reduction if self.merging else Reduction()
        schedules = self.schedules if self.merging else {}
        about = self.min_visual_tokens, self.features, self.documents
        return Rules(schedules, *about, settings=reduction.model_dump_json(include=BEFORE_DECODER))

    @property
    def runner(self) -> Runner:
        return self.passes.runner

    @property
    def family(self) -> Family:
        return self.runner.family

    @property
    def model(self) -> nn.Module:
        """`transformers`' own."""
        return self.family.model

    @property
    def load_seconds(self) -> float:
        return self.runner.load_seconds

    @property
    def context_length(self) -> int:
        """Tokens that the decoder was made for."""
        return self.runner.context_length

    @property
    def reduces(self) -> bool:
        """Whether anything is done to any medium."""
        return self.merging and any(schedule.reduces for schedule in self.schedules.values())

    def describe(self) -> dict[str, Any]:
        """What was loaded, for people and logs."""
        return {
            "model": self.config.model.id,
            "family": self.family.key,
            "device": str(self.family.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "attn": self.model.config.text_config._attn_implementation,
            "preset": self.config.preset,
            "merging": self.merging,
            "reduction": self.reduction.model_dump(mode="json", exclude_none=True),
            "context": self.runner.context_length,
        }

    # --- other sessions on the same model -----------------------------------------------------------

    def under(self, config: Config) -> Session:
        """One under another configuration of preset, media and generation.

        It keeps no encoded media: a file that is asked about again goes through the tower again.

        Raises:
            UsageError: a schedule that the model cannot run.
        """
        return under(self.passes, config, self.on_note, FeatureCache(0))

    def asking(self, config: Config) -> Session:
        """This one under other media and generation settings; what it has encoded serves both."""
        prompts.check_thinking(self.family, config.generation.thinking)
        return replace(self, config=config)

    def with_merging(self, on: bool) -> Session:
        """This one with merging on or off."""
        return replace(self, merging=on)

    def updated(self, settings: Sequence[str]) -> Session:
        """This one with other `generation.*` or `media.*` settings (`name=value`).

        Raises:
            UsageError: an unknown key, a bad value, or one that needs the model loaded again.
        """
        return self.asking(changed(self.config, settings))

    # --- asking -----------------------------------------------------------------------------------

    def ask(
        self,
        prompt: str,
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        *,
        system: str | None = None,
        on_text: Callable[[str], None] | None = None,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
        id: str = "",
        trace: Tracing = False,
        logits: bool = False,
    ) -> Generation:
        """Answer one question.

        Args:
            prompt: the question; `<image>` and `<video>` in it place the media, else these come first.
            images: paths, URLs (http, file, data), `-`, bytes, PIL images or (H, W, 3) uint8 arrays.
            videos: the same, (T, H, W, 3) uint8 arrays or lists of PIL images.
            on_text: called with each new piece of the answer.
            cancel: set it to stop the answer early; before its first word the question is `Cancelled`.
            progress: called, in any thread, with `"read"`, how many of a clip's frames are read and how many
                there are; then with `"encode"` and the same of what goes through the tower.
            trace: keep the merges of tower and decoder in `Generation.trace`; `"attention"`: also what each
                token received in every layer.
            logits: keep the first token's logits in `Generation.logits`.
        """
        reset_peak(self.family.device)
        self.runner.refuse_within()
        request = Request(prompt, images, videos, system, id)
        waiting = {"cancel": cancel, "progress": progress}
        prepared = self.prepare(request, fresh=bool(trace), **waiting)
        turn = self.turn(prepared, trace=trace, logits=logits, on_text=told(on_text), **waiting)
        return generation_of(*self.passes.answer(turn), self.family, self.load_seconds)

    def stream(
        self, prompt: str, images: Sequence[Any] = (), videos: Sequence[Any] = (), **about: Any
    ) -> Stream:
        """The answer to one question piece by piece; the whole of it is in `Stream.generation` then.

        Args:
            about: `system` and `id`; all arguments are as for `ask`.
        """
        return Stream(self, Request(prompt, images, videos, **about))

    def astream(
        self, prompt: str, images: Sequence[Any] = (), videos: Sequence[Any] = (), **about: Any
    ) -> AsyncStream:
        """As `stream`, for `async for`: other tasks go on meanwhile, and share its passes."""
        return AsyncStream(self, Request(prompt, images, videos, **about))

    async def aask(
        self, prompt: str, images: Sequence[Any] = (), videos: Sequence[Any] = (), **about: Any
    ) -> Generation:
        """As `ask`, for tasks; one that is cancelled ends its answer."""
        return await self.astream(prompt, images, videos, **about).whole()

    def chat(self, system: str | None = None) -> Chat:
        """A conversation that goes on from its KV cache."""
        return Chat(self, system)

    def prepare(
        self,
        request: Request,
        *,
        fresh: bool = False,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
    ) -> Prepared:
        """Read and preprocess a question's media, to ask it later with `ask_batch`.

        Args:
            fresh: encode anew what was encoded before (the merges of kept features are gone).

        Raises:
            UsageError: it cannot be asked; said before its media are read.
            MediaError: a medium that cannot be read.
            Timeout: one took longer than `media_timeout`.
            Cancelled: `cancel` was set meanwhile.
        """
        prompts.user_message(self.family, request.prompt, *request.counts)
        about = self.rules, self._guidance(request), cancel, progress
        return MediaReader(self.family, self.config.media, *about).prepare(request, fresh)

    def _guidance(self, request: Request) -> Guidance | None:
        """Who chooses what of the media is shown, by this question's own words."""
        if self.guide is None or not self.merging:
            return None
        words = " ".join(replaced(request.prompt, lambda kind: " ").split())
        return Guidance(self.guide, self.schedules["image"].guide, words)

    def turn(
        self, prepared: Prepared, past: Past | None = None, *, earlier: Sequence[Turn] = (), **options: Any
    ) -> Turn:
        """A prepared question, for `Passes` and `Scheduler`.

        Args:
            past: the conversation that it goes on from; None: it begins one.
            earlier: rounds after that one whose answers are given, in their order.
            options: of `Turn`.

        Raises:
            UsageError: it was prepared by one that reduces otherwise, or its schema cannot be followed.
        """
        if prepared.settings != self.rules.settings:
            raise UsageError("a question is asked by a session that reduces as the one that prepared it does")
        request = prepared.request
        system = request.system if request.system is not None else self.config.generation.system
        user = prompts.user_message(self.family, request.prompt, *request.counts)
        markers = prompts.markers_of(self.family, prepared.slots)
        opening = prompts.Opening(self.config.generation.thinking, "given" in options)
        if earlier or (past is not None and past.rounds):
            pending = list(earlier[-1].given) if earlier else past.pending
            parts = prompts.next_turn(self.family, user, pending, markers, opening)
        else:
            parts = prompts.first_turn(self.family, user, system, markers, opening)
        options.setdefault("constrain", self.runner.grammars.constrain(self.config))
        turn = Turn(prepared, parts, self.rules, self.config, past, earlier, **options)
        if turn.trace and not turn.continues:
            turn.system_tokens = prompts.leading_tokens(self.family, parts, system, opening)
        return turn

    def given(self, answer: str) -> list[int]:
        """Token ids of an answer that is given, for `Turn.given`: words all of it, and no thoughts."""
        return prompts.answer_ids(self.family, answer)

    def ask_batch(
        self,
        requests: Sequence[Request | Prepared | dict],
        *,
        rows: int | None = None,
        cancel: threading.Event | None = None,
        logits: bool = False,
    ) -> list[Generation]:
        """Answer several questions in one batch, each as it would be answered alone, greedy or sampled.

        A question that cannot be answered (broken media, too long) fails the batch.

        Args:
            rows: questions that are answered at a time; by default all. A waiting one takes the place of one
                that has its answer.
            cancel: set it to stop early; answers that were not at their end have no `finish_reason`.

        Raises:
            Cancelled: `cancel` was set while media were read.
        """
        made = [Request.of(r) if isinstance(r, dict) else r for r in requests]
        with self.runner.alone():
            reset_peak(self.family.device)
            prepared = [r if isinstance(r, Prepared) else self.prepare(r, cancel=cancel) for r in made]
            turns = [self.turn(one, cancel=cancel, logits=logits) for one in prepared]
            scheduler = Scheduler(self.runner, max(1, len(turns)) if rows is None else rows)
            answers = self._answers(turns, scheduler)
        return [answers[turn][0] if answers[turn] else unanswered(turn, self.load_seconds) for turn in turns]

    def sample(
        self,
        prompt: str,
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        *,
        n: int,
        system: str | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        """`n` answers to one question, which is prefilled once; at a temperature each has its own draws.

        Raises:
            UsageError: `n` is below 1.
        """
        with self.runner.alone():
            reset_peak(self.family.device)
            scheduler = Scheduler(self.runner, n)
            prepared = self.prepare(Request(prompt, images, videos, system), cancel=cancel)
            turn = self.turn(prepared, cancel=cancel, answers=n)
            answers = self._answers([turn], scheduler)[turn]
        if not answers:
            raise Cancelled(UNASKED)
        return answers

    def _answers(self, turns: Sequence[Turn], scheduler: Scheduler) -> dict[Turn, list[Generation]]:
        """The answers to turns; none to one that was cancelled before its first word."""
        found = {}
        for turn in turns:
            scheduler.add(turn)
        for turn, answers, error in scheduler.run():
            if error is not None and not isinstance(error, Cancelled):
                raise error
            found[turn] = [generation_of(answer, self.family, self.load_seconds) for answer in answers]
        return found
