"""A loaded model and its conversations: media and prompts in, `Generation`s out."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch

from illava_cli.config import (
    OVERRIDES,
    Config,
    GenerationOptions,
    MediaOptions,
    Reduction,
    deep_merge,
    load_preset,
    over,
    parse_setting,
    resolve,
    validate,
)
from illava_cli.engine import decoding
from illava_cli.engine import prompt as prompts
from illava_cli.engine.batching import Row, assemble
from illava_cli.engine.chat import Chat
from illava_cli.engine.features import FeatureCache
from illava_cli.engine.markers import replaced
from illava_cli.engine.preparing import prepare
from illava_cli.engine.prompt import Slot
from illava_cli.engine.reading import Guidance, MediaReader
from illava_cli.engine.record import Generation, Timings, new_id
from illava_cli.engine.request import Prepared, Request, Turn
from illava_cli.engine.stream import RowText, Watcher
from illava_cli.errors import ModelError, OutOfMemory, UsageError
from illava_cli.models.cache import MergeCache
from illava_cli.models.family import Family
from illava_cli.models.guide import Guide, checkpoint_of, find_guide, load_guide
from illava_cli.models.loading import load_family
from illava_cli.models.media import Features, Pixels
from illava_cli.models.planning import check_guide, plan, stages_of
from illava_cli.models.schedule import KINDS, Schedule
from illava_cli.models.sizes import schedule_key
from illava_cli.trace import DecoderTrace, Trace, Tracing

OFF = {kind: Schedule() for kind in KINDS}


@contextmanager
def _out_of_memory_in_one_line() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # a CPU's allocator has no error of its own
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(
            "out of memory: use fewer frames or tiles, a preset that merges more, or --dtype bfloat16"
        ) from None


def load(model: str | None = None, *, config: Config | None = None, **settings: Any) -> Session:
    """Load a model.

    Args:
        model: a name from `illava models list`, a YAML path, a checkpoint directory, a hub id or
            `random:NAME`; the default is `$ILLAVA_MODEL`, else a LLaVA-OneVision that fits the machine.
        config: a whole configuration instead.
        settings: `preset`, `method`, `guide`, `vision`, `llm` and the like, or any field of the groups
            model, media and generation by its own name (`device="cuda"`, `num_frames=8`, `max_tokens=64`).

    Raises:
        UsageError, ModelError: as the command line would say it.
    """
    if config is not None and (model is not None or settings):
        raise UsageError("load takes a whole config or single settings, not both")
    return Session(config or resolve(model, overrides=_grouped(settings)))


def _grouped(settings: dict[str, Any]) -> dict:
    """Flat keyword settings under the groups that they belong to."""
    groups = {"model": Config().model, "media": MediaOptions(), "generation": GenerationOptions()}
    nested: dict = {}
    for name, value in settings.items():
        owner = next((g for g, options in groups.items() if name in type(options).model_fields), None)
        nested = deep_merge(nested, {owner: {name: value}} if owner else {name: value})
    return nested


class Answering:
    """One question at a time on a loaded model, whichever of its sessions asks it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None  # the thread that answers now

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait for the question that is being answered; refuse one from within its own answer."""
        if self._owner == threading.get_ident():
            raise UsageError("a question cannot be asked from within on_text: ask it after the answer")
        with self._lock:
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = None


class Session:
    """A loaded model with its schedule; answers questions, alone, in batches and in chats."""

    def __init__(self, config: Config, on_note: Callable[[str], None] = lambda text: None):
        """
        Args:
            config: from `illava_cli.config.resolve`.
            on_note: takes one-line messages for a person (a download, a schedule left out).
        """
        started = time.perf_counter()
        self.config = config
        self.on_note = on_note
        self._find_guide()
        self.family: Family = load_family(config, on_note)
        self.model = self.family.model
        self.reduction, self.schedules = self._planned()
        self.min_visual_tokens = self._threshold()
        self._guides: dict[tuple[str, str], Guide] = {}  # shared by all sessions on this model
        self.guide = self._guide()
        self.merging = True
        self.features = FeatureCache(config.model.feature_cache_mb << 20)
        self._answering = Answering()
        self.load_seconds = time.perf_counter() - started

    # --- what a session is ----------------------------------------------------------------------

    def _planned(self) -> tuple[Reduction, dict[str, Schedule]]:
        """The preset's reduction for this model, and the schedule of each kind of medium."""
        reduction = self.config.reduction_for(self.family.schedule_key)
        try:
            schedules = {kind: plan(reduction, self.family.schedule_shape, kind) for kind in KINDS}
        except UsageError as error:
            overridden = not self.config.model_fields_set.isdisjoint(OVERRIDES)
            if self.config.preset != "auto" or overridden:
                raise
            self.on_note(f"merging is off: preset auto does not fit this model ({error})")
            return Reduction(), OFF
        if reduction.method is not None and not any(stages_of(reduction, k).act for k in KINDS):
            self.on_note(f"merging is off: preset {self.config.preset} has no stage for {reduction.method}")
        return reduction, schedules

    @property
    def reduces(self) -> bool:
        """Whether anything is done to any medium."""
        return self.merging and any(schedule.reduces for schedule in self.schedules.values())

    def _threshold(self) -> int:
        """Visual tokens below which the preset leaves a medium whole; toys always merge."""
        name = str(self.config.model.id)
        toy = name.startswith("random:") and name.endswith("-toy")
        return 0 if toy else load_preset(self.config.preset).min_visual_tokens

    def _find_guide(self) -> None:
        """Look for the guide's checkpoint before minutes go into a model that cannot be asked without it."""
        preset = load_preset(self.config.preset)
        try:
            keys = [schedule_key(self.config)]
        except ModelError:  # the model is not on this machine yet: any schedule may be the one
            keys = [*(preset.by_family or preset.families or ("",))]
        except UsageError:
            return  # loading says it, and so below
        try:
            stages = {stages_of(self.config.reduction_for(key), "image").guide for key in keys}
            for stage in stages - {None}:
                check_guide(stage)
        except UsageError:
            return
        if len(stages) == 1 and None not in stages:
            find_guide(*stages, self.on_note)

    def _guide(self) -> Guide | None:
        """The checkpoint that chooses frames and regions by the prompt, if the schedule has one do so."""
        stage = self.schedules["image"].guide
        if stage is None:
            return None
        key = checkpoint_of(stage)
        if key not in self._guides:
            self._guides[key] = load_guide(stage, self.family.device, self.model.dtype, self.on_note)
        return self._guides[key]

    def under(self, config: Config) -> Session:
        """A session on the same loaded model under another configuration of preset, media and generation.

        It keeps no encoded media: a file that is asked about again goes through the tower again.

        Raises:
            UsageError: a schedule that the model cannot run.
        """
        other = copy.copy(self)
        other.config = config
        other.reduction, other.schedules = other._planned()
        other.min_visual_tokens = other._threshold()
        other.guide = other._guide()
        other.features = FeatureCache(0)
        return other

    def asking(self, config: Config) -> Session:
        """This session under other media and generation settings; what it has encoded serves both."""
        other = copy.copy(self)
        other.config = config
        return other

    def update(self, settings: Sequence[str]) -> None:
        """Change `generation.*` or `media.*` settings (`name=value`) of a running session.

        Raises:
            UsageError: an unknown key, a bad value, or one that needs the model loaded again.
        """
        data = self.config.model_dump(exclude_unset=True)
        for setting in settings:
            change = parse_setting(setting)
            group = next(iter(change))
            if group not in ("generation", "media"):
                owners = {"generation": GenerationOptions, "media": MediaOptions}
                owner = next((g for g, o in owners.items() if group in o.model_fields), None)
                if owner is None:
                    validate(Config, change, "settings")  # an unknown key says so
                    raise UsageError(
                        f"{setting.partition('=')[0]} is fixed for this session: start again with "
                        f"--set {setting} (here: generation.* and media.*)"
                    )
                change = {owner: change}
            data = over(data, change)
        self.config = validate(Config, data, "settings")

    def describe(self) -> dict[str, Any]:
        """What was loaded, for people and logs."""
        attention = self.model.config.text_config._attn_implementation
        return {
            "model": self.config.model.id,
            "family": self.family.key,
            "device": str(self.family.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "attn": attention,
            "preset": self.config.preset,
            "merging": self.merging,
            "reduction": self.reduction.model_dump(mode="json", exclude_none=True),
            "context": self.context_length,
        }

    @property
    def context_length(self) -> int:
        """Tokens that the decoder was made for."""
        return self.family.text_config.max_position_embeddings

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
            trace: keep the merges of tower and decoder in `Generation.trace`; `"attention"` also keeps what
                each token received in every layer, which takes a little longer.
            logits: keep the first token's logits in `Generation.logits`.
        """
        options = {"on_text": on_text, "cancel": cancel, "id": id, "trace": trace, "logits": logits}
        return self.chat(system).ask(prompt, images, videos, **options)

    def prepare(
        self, request: Request, *, fresh: bool = False, cancel: threading.Event | None = None
    ) -> Prepared:
        """Read and preprocess a question's media, to ask it later with `ask_batch`.

        Args:
            fresh: encode anew what was encoded before (the merges of kept features are gone).
            cancel: set it to give up.

        Raises:
            UsageError: it cannot be asked; said before its media are read.
            MediaError: a medium that cannot be read.
            Timeout: one took longer than `media_timeout`.
            Cancelled: `cancel` was set meanwhile.
        """
        prompts.user_message(self.family, request.prompt, *request.counts)
        guidance = self._guidance(request)
        reader = MediaReader(self.family, self.config.media, self._tower_settings(), guidance, cancel)
        return prepare(request, reader, None if fresh else self.features)

    def _guidance(self, request: Request) -> Guidance | None:
        """Who chooses what of the media is shown, by this question's own words."""
        if self.guide is None or not self.merging:
            return None
        words = " ".join(replaced(request.prompt, lambda kind: " ").split())
        return Guidance(self.guide, self.schedules["image"].guide, words)

    def ask_batch(
        self,
        requests: Sequence[Request | Prepared | dict],
        *,
        cancel: threading.Event | None = None,
        logits: bool = False,
    ) -> list[Generation]:
        """Answer several questions in one batch, each as it would be answered alone.

        Times and peak memory are the batch's. With a temperature above 0 the rows draw from one
        random stream, so that a row's answer depends on its neighbours. A question that cannot be
        answered (broken media, too long) fails the batch.

        Args:
            cancel: set it to stop early; answers that were not at their end have no `finish_reason`.
        """
        made = [Request(**r) if isinstance(r, dict) else r for r in requests]
        answers: dict[int, Generation] = {}
        with self._exclusive():
            prepared = [r if isinstance(r, Prepared) else self.prepare(r, cancel=cancel) for r in made]
            for indices in self._alike(prepared).values():
                rows = self._ask_rows([prepared[i] for i in indices], cancel, logits)
                answers |= zip(indices, rows, strict=True)
        return [answers[i] for i in range(len(made))]

    def _alike(self, prepared: list[Prepared]) -> dict[str | None, list[int]]:
        """Indices of the questions that may share a pass: those whose decoder schedule is the same."""
        groups: dict[str | None, list[int]] = {}
        for index, one in enumerate(prepared):
            images, videos = one.request.counts
            kind = "image" if images else "video" if videos else None
            groups.setdefault(kind, []).append(index)
        schedules = [self.schedules[kind] for kind in groups if kind is not None]
        if len({(schedule.decoder, schedule.scope) for schedule in schedules}) < 2:
            return {None: list(range(len(prepared)))} if prepared else {}
        return groups

    def _ask_rows(
        self, prepared: list[Prepared], cancel: threading.Event | None, logits: bool
    ) -> list[Generation]:
        turns = []
        for one in prepared:
            request = one.request
            system = request.system if request.system is not None else self.config.generation.system
            user = prompts.user_message(self.family, request.prompt, *request.counts)
            turns.append(Turn(one, prompts.first_turn(self.family, user, system, *request.counts)))
        starts = [0] * len(turns)
        generations, _ = self._answer(turns, self._new_cache(), starts, cancel=cancel, logits=logits)
        return generations

    def chat(self, system: str | None = None) -> Chat:
        """A conversation that goes on from its KV cache."""
        return Chat(self, system)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One question at a time: the taps, the caches and the random state are the session's."""
        with self._answering.alone():
            yield

    # --- the way of a question ---------------------------------------------------------------

    def _new_cache(self) -> MergeCache:
        return MergeCache(self.family.text_config)

    def _tower_settings(self) -> str:
        """What of the schedule decides a medium's features."""
        reduction = self.reduction if self.merging else Reduction()
        return reduction.model_dump_json(include={"variant", "layout", "method", "vision", "input"})

    def _encode(
        self, turns: list[Turn], schedules: Mapping[str, Schedule], notes: list[str], trace: Tracing
    ) -> dict[str, Features]:
        """Features of all media of a pass by key; each different medium goes through the tower once."""
        items = {key: item for turn in turns for key, item in turn.prepared.slots.values()}
        if not trace:
            # what was prepared long ago may have been encoded since
            items = {key: self.features.get(key) or item for key, item in items.items()}
        new = {key: item for key, item in items.items() if isinstance(item, Pixels)}
        few = {key for key, item in new.items() if item.segments * item.tokens < self.min_visual_tokens}
        for keys, planned in ((new.keys() - few, schedules), (few, OFF)):
            ordered = [key for key in new if key in keys]
            if ordered:
                encoded = self.family.encode([new[k] for k in ordered], planned, trace=trace)
                items |= zip(ordered, encoded, strict=True)
        if few and schedules is not OFF:
            notes.append(f"media of fewer than {self.min_visual_tokens} visual tokens were not merged")
            for key in few:
                # nor does the decoder rank them
                whole = items[key]
                items[key] = replace(whole, rankable=torch.zeros_like(whole.rankable), candidates=0)
        for key, features in items.items():
            self.features.put(key, features)
        return items

    def _schedule(
        self, turns: list[Turn], cache: MergeCache, notes: list[str]
    ) -> tuple[Mapping[str, Schedule], Schedule]:
        """The schedules of this pass's media, and the one of its decoder.

        The decoder's is fixed by a conversation's first media, since its layers' caches are.
        """
        kinds = {slot.kind for turn in turns for slot in turn.prepared.slots}
        if not kinds:
            return OFF, Schedule()
        if cache.leading_kind is None:
            cache.leading_kind = "image" if "image" in kinds else "video"
        if not self.merging:
            notes.append("merging was off")
            return OFF, Schedule()
        return self.schedules, self.schedules[cache.leading_kind]

    @_out_of_memory_in_one_line()
    @torch.inference_mode()
    def _answer(
        self,
        turns: list[Turn],
        cache: MergeCache,
        starts: list[int],
        *,
        pending: list[int] | None = None,
        on_text: Callable[[str], None] | None = None,
        cancel: threading.Event | None = None,
        trace: Tracing = False,
        logits: bool = False,
    ) -> tuple[list[Generation], Watcher]:
        """One pass for all `turns`; `pending` is a generated token that is not in the cache yet."""
        clock = time.perf_counter()
        notes: list[str] = []
        device = self.family.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        schedules, leading = self._schedule(turns, cache, notes)

        encoded = self._encode(turns, schedules, notes, trace)
        rows = []
        for turn, start in zip(turns, starts, strict=True):
            by_slot = {slot: encoded[key] for slot, (key, _) in turn.prepared.slots.items()}
            turn.features = list(by_slot.values())
            pieces = [pending, *turn.parts] if pending else turn.parts
            parts = [by_slot[p] if isinstance(p, Slot) else p for p in pieces]
            lengths = [len(p) if isinstance(p, list) else len(p.embeds) for p in parts]
            begins = [0, *accumulate(lengths)]
            turn.starts = [begins[pieces.index(slot)] for slot in by_slot]
            turn.prompt_tokens = begins[-1]
            rows.append(Row(parts, start))
        decoding.synchronize(device)
        vision_done = time.perf_counter()

        traced = DecoderTrace(watched=trace == "attention") if trace else None
        embeds, prefill = assemble(
            self.family,
            rows,
            dict(leading.decoder),
            packed=leading.packed and self.family.rope_axes == 1,
            scope=leading.scope,
            trace=traced,
        )
        options = self.config.generation
        limits = decoding.token_limits(
            turns,
            cache.get_seq_length(),
            prefill.next_position,
            options.max_tokens,
            self.context_length,
            notes,
        )
        texts = [
            RowText(self.family.tokenizer, options.stop, on_text if len(turns) == 1 else None) for _ in turns
        ]
        cache.expect(prefill)
        watcher = Watcher(texts, limits, self.family.end_ids, cancel, cache.verify)
        with decoding.first_logits(self.model, logits) as first_logits:
            decoding.generate(
                self.model,
                embeds,
                prefill.padding,
                cache,
                watcher,
                options,
                max(limits),
                self.family.unspoken,
            )
        decoding.synchronize(device)
        finished = time.perf_counter()

        first = watcher.first_token_at or finished
        timings = Timings(
            load_s=self.load_seconds,
            media_s=sum(t.prepared.seconds for t in turns),
            vision_s=vision_done - clock,
            prefill_s=first - vision_done,
            decode_s=finished - first,
            ttft_s=first - clock + sum(t.prepared.seconds for t in turns),
        )
        kept = decoding.kept_counts(cache.kinds, len(turns))
        traces = [decoding.trace_of(self.family, turn, prefill) for turn in turns]
        generations = [
            self._generation(turn, index, watcher, timings, kept[index], notes, traces[index])
            for index, turn in enumerate(turns)
        ]
        if logits:
            pairs = zip(generations, first_logits[0], strict=True)
            generations = [replace(generation, logits=row) for generation, row in pairs]
        return generations, watcher

    def _generation(
        self,
        turn: Turn,
        index: int,
        watcher: Watcher,
        timings: Timings,
        kept: tuple[int, int],
        notes: list[str],
        trace: Trace | None,
    ) -> Generation:
        tokens = watcher.tokens[index]
        text = watcher.rows[index].finish(self.family.tokenizer.decode(tokens, skip_special_tokens=True))
        return Generation(
            text=text,
            finish_reason=decoding.finish_reason(watcher, index),
            model=str(self.config.model.id),
            preset=self.config.preset,
            seed=self.config.generation.seed,
            config_hash=self.config.hash(),
            media=tuple(turn.prepared.media),
            usage=decoding.usage(turn, len(tokens), kept),
            timings=timings,
            peak_bytes=decoding.peak_bytes(self.family.device),
            id=turn.prepared.request.id or new_id(),
            token_ids=tuple(tokens),
            notes=tuple(notes),
            trace=trace,
        )


__all__ = ["Chat", "Request", "Session", "load"]
