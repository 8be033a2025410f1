"""A loaded model and its conversations: media and prompts in, `Generation`s out."""

from __future__ import annotations

import copy
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationConfig

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
from illava_cli.engine import prompt as prompts
from illava_cli.engine.batching import Row, assemble
from illava_cli.engine.features import FeatureCache
from illava_cli.engine.prompt import Slot
from illava_cli.engine.reading import Guidance, MediaReader, Seen
from illava_cli.engine.record import Generation, MediaRecord, Timings, Usage, VisualUsage, new_id
from illava_cli.engine.stream import RowText, Watcher
from illava_cli.errors import ContextError, ModelError, UsageError
from illava_cli.models.cache import NEWLINE, VISUAL, MergeCache, Prefill
from illava_cli.models.family import Family, Features, Pixels
from illava_cli.models.guide import Guide, checkpoint_of, load_guide
from illava_cli.models.host import to_device
from illava_cli.models.loading import load_family

OFF = Reduction()


@dataclass(frozen=True)
class Request:
    """One question of a batch."""

    prompt: str
    images: Sequence[Any] = ()
    videos: Sequence[Any] = ()
    system: str | None = None
    id: str = ""

    def __post_init__(self):
        for name in ("images", "videos"):
            object.__setattr__(self, name, _as_tuple(getattr(self, name)))


def _as_tuple(media: Any) -> tuple:
    """Media as a tuple; one path, picture or array alone is taken as one medium."""
    if isinstance(media, str | bytes | Path | np.ndarray) or hasattr(media, "convert"):
        return (media,)
    return tuple(media)


@dataclass
class _Prepared:
    """A question whose media are read; what was encoded before comes as features."""

    request: Request
    slots: dict[Slot, tuple[str, Pixels | Features]]  # with the key of the feature cache
    media: list[MediaRecord]
    seconds: float


@dataclass
class _Turn:
    """A question on its way through the model."""

    prepared: _Prepared
    parts: list = field(default_factory=list)
    features: list[Features] = field(default_factory=list)
    prompt_tokens: int = 0


@contextmanager
def _out_of_memory_in_one_line() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise ModelError(
            "out of memory: use fewer frames or tiles, a preset that merges more, or --dtype bfloat16"
        ) from None


@contextmanager
def _first_logits(model: nn.Module, wanted: bool) -> Iterator[list[Tensor]]:
    """The first token's logits (B, vocabulary) in the model's own dtype; generate's are float32."""
    logits: list[Tensor] = []

    def keep(module, args, output: Tensor) -> None:
        if not logits:
            logits.append(output[:, -1].detach().cpu())

    handle = model.get_output_embeddings().register_forward_hook(keep) if wanted else None
    try:
        yield logits
    finally:
        if handle is not None:
            handle.remove()


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
        self.family: Family = load_family(config, on_note)
        self.model = self.family.model
        self.reduction = self._reduction()
        self.min_visual_tokens = self._threshold()
        self._guides: dict[tuple[str, str], Guide] = {}  # shared by all sessions on this model
        self.guide = self._guide()
        self.merging = True
        self.features = FeatureCache(config.model.feature_cache_mb << 20)
        self._lock = threading.Lock()
        self._owner: int | None = None  # the thread that answers now
        self.load_seconds = time.perf_counter() - started

    # --- what a session is ----------------------------------------------------------------------

    def _reduction(self) -> Reduction:
        key = self.family.schedule_key(self.family.text_config.hidden_size)
        reduction = self.config.reduction_for(key)
        try:
            self.family.check(reduction)
        except UsageError as error:
            overridden = not self.config.model_fields_set.isdisjoint(OVERRIDES)
            if self.config.preset != "auto" or overridden:
                raise
            self.on_note(f"merging is off: preset auto does not fit this model ({error})")
            return OFF
        if reduction.method is not None and not self.family.reduces(reduction):
            self.on_note(f"merging is off: preset {self.config.preset} has no stage for {reduction.method}")
        return reduction

    def _threshold(self) -> int:
        """Visual tokens below which the preset leaves a medium whole; toys always merge."""
        name = str(self.config.model.id)
        toy = name.startswith("random:") and name.endswith("-toy")
        return 0 if toy else load_preset(self.config.preset).min_visual_tokens

    def _guide(self) -> Guide | None:
        """The checkpoint that chooses frames and regions by the prompt, if the schedule has one do so."""
        stage = self.family.guide_stage(self.reduction)
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
        other.reduction = other._reduction()
        other.min_visual_tokens = other._threshold()
        other.guide = other._guide()
        other.features = FeatureCache(0)
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
        trace: bool = False,
        logits: bool = False,
    ) -> Generation:
        """Answer one question.

        Args:
            prompt: the question; `<image>` and `<video>` in it place the media, else these come first.
            images: paths, URLs, `-`, bytes, PIL images or (H, W, 3) uint8 arrays.
            videos: paths, URLs, `-`, bytes, (T, H, W, 3) uint8 arrays or lists of PIL images.
            on_text: called with each new piece of the answer.
            cancel: set it to stop the answer early.
            trace: keep the merges of tower and decoder in `Generation.trace`.
            logits: keep the first token's logits in `Generation.logits`.
        """
        options = {"on_text": on_text, "cancel": cancel, "id": id, "trace": trace, "logits": logits}
        return self.chat(system).ask(prompt, images, videos, **options)

    def ask_batch(self, requests: Sequence[Request | dict], *, logits: bool = False) -> list[Generation]:
        """Answer several questions in one batch, each as it would be answered alone.

        Times and peak memory are the batch's. With a temperature above 0 the rows draw from one
        random stream, so that a row's answer depends on its neighbours. A question that cannot be
        answered (broken media, too long) fails the batch.
        """
        made = [r if isinstance(r, Request) else Request(**r) for r in requests]
        answers: dict[int, Generation] = {}
        with self._exclusive():
            for indices in self._alike(made).values():
                rows = self._ask_rows([made[i] for i in indices], logits)
                answers |= zip(indices, rows, strict=True)
        return [answers[i] for i in range(len(made))]

    def _alike(self, requests: list[Request]) -> dict[str | None, list[int]]:
        """Indices of the requests that may share a pass: those whose decoder schedule is the same."""
        groups: dict[str | None, list[int]] = {}
        for index, request in enumerate(requests):
            kind = "image" if len(request.images) else "video" if len(request.videos) else None
            groups.setdefault(kind, []).append(index)
        kinds = [kind for kind in groups if kind is not None]
        stages = {kind: self.family.llm_stage(self.reduction, kind) for kind in kinds}
        if all(stage == stages[kinds[0]] for stage in stages.values()):
            return {None: list(range(len(requests)))} if requests else {}
        return groups

    def _ask_rows(self, requests: list[Request], logits: bool) -> list[Generation]:
        turns = []
        for request in requests:
            counts = len(request.images), len(request.videos)
            system = request.system if request.system is not None else self.config.generation.system
            user = prompts.user_message(self.family, request.prompt, *counts)
            parts = prompts.first_turn(self.family, user, system, *counts)
            turns.append(_Turn(self._prepare(request), parts))
        generations, _ = self._answer(turns, self._new_cache(), [0] * len(turns), logits=logits)
        return generations

    def chat(self, system: str | None = None) -> Chat:
        """A conversation that goes on from its KV cache."""
        return Chat(self, system)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One question at a time: the taps, the caches and the random state are the session's."""
        if self._owner == threading.get_ident():
            raise UsageError("a question cannot be asked from within on_text: ask it after the answer")
        with self._lock:
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = None

    # --- the way of a question ---------------------------------------------------------------

    def _new_cache(self) -> MergeCache:
        return MergeCache(self.family.text_config)

    def _prepare(self, request: Request, fresh: bool = False) -> _Prepared:
        """Read and preprocess a question's media.

        Args:
            fresh: encode anew what was encoded before (the merges of kept features are gone).
        """
        started = time.perf_counter()
        reader = MediaReader(self.family, self.config.media, self._tower_settings(), self._guidance(request))
        alone = len(request.images) == 1
        slots: dict[Slot, tuple[str, Pixels | Features]] = {}
        media = []

        def take(slot: Slot, seen: Seen) -> None:
            kept = None if fresh else self.features.get(seen.key)
            slots[slot] = seen.key, kept or seen.pixels()
            media.append(seen.record)

        for index, source in enumerate(request.images):
            take(Slot("image", index), reader.image(source, alone))
        for index, source in enumerate(request.videos):
            take(Slot("video", index), reader.video(source))
        return _Prepared(request, slots, media, time.perf_counter() - started)

    def _guidance(self, request: Request) -> Guidance | None:
        """Who chooses what of the media is shown, by this question's own words."""
        if self.guide is None or not self.merging:
            return None
        words = " ".join(prompts.MARKER.sub(" ", request.prompt).split())
        return Guidance(self.guide, self.family.guide_stage(self.reduction), words)

    def _tower_settings(self) -> str:
        """What of the schedule decides a medium's features."""
        reduction = self.reduction if self.merging else OFF
        return reduction.model_dump_json(include={"variant", "layout", "method", "vision", "input"})

    def _encode(
        self, turns: list[_Turn], reduction: Reduction, notes: list[str], trace: bool
    ) -> dict[str, Features]:
        """Features of all media of a pass by key; each different medium goes through the tower once."""
        items = {key: item for turn in turns for key, item in turn.prepared.slots.values()}
        new = {key: item for key, item in items.items() if isinstance(item, Pixels)}
        few = {key for key, item in new.items() if item.segments * item.tokens < self.min_visual_tokens}
        for keys, schedule in ((new.keys() - few, reduction), (few, OFF)):
            ordered = [key for key in new if key in keys]
            if ordered:
                encoded = self.family.encode([new[k] for k in ordered], schedule, trace=trace)
                items |= zip(ordered, encoded, strict=True)
        if few and reduction is not OFF:
            notes.append(f"media of fewer than {self.min_visual_tokens} visual tokens were not merged")
            for key in few:
                # nor does the decoder rank them
                whole = items[key]
                items[key] = replace(whole, rankable=torch.zeros_like(whole.rankable), candidates=0)
        for key, features in items.items():
            self.features.put(key, features)
        return items

    def _schedule(self, turns: list[_Turn], cache: MergeCache, notes: list[str]):
        """The reduction of this pass, and the decoder's part of it: `(reduction, stage, merge points)`.

        The decoder's part is fixed by a conversation's first media, since its layers' caches are.
        """
        kinds = {slot.kind for turn in turns for slot in turn.prepared.slots}
        if not kinds:
            return OFF, None, {}
        if cache.leading_kind is None:
            cache.leading_kind = "image" if "image" in kinds else "video"
        if not self.merging:
            notes.append("merging was off")
            return OFF, None, {}
        kind = cache.leading_kind
        stage = self.family.llm_stage(self.reduction, kind)
        return self.reduction, stage, self.family.merge_points(self.reduction, kind)

    @_out_of_memory_in_one_line()
    @torch.inference_mode()
    def _answer(
        self,
        turns: list[_Turn],
        cache: MergeCache,
        starts: list[int],
        *,
        pending: list[int] | None = None,
        on_text: Callable[[str], None] | None = None,
        cancel: threading.Event | None = None,
        trace: bool = False,
        logits: bool = False,
    ) -> tuple[list[Generation], Watcher]:
        """One pass for all `turns`; `pending` is a generated token that is not in the cache yet."""
        clock = time.perf_counter()
        notes: list[str] = []
        device = self.family.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        reduction, stage, merge_points = self._schedule(turns, cache, notes)

        encoded = self._encode(turns, reduction, notes, trace)
        rows = []
        for turn, start in zip(turns, starts, strict=True):
            by_slot = {slot: encoded[key] for slot, (key, _) in turn.prepared.slots.items()}
            turn.features = list(by_slot.values())
            parts = [by_slot[p] if isinstance(p, Slot) else p for p in turn.parts]
            if pending:
                parts = [pending, *parts]
            turn.prompt_tokens = sum(len(p) if isinstance(p, list) else len(p.embeds) for p in parts)
            rows.append(Row(parts, start))
        _synchronize(device)
        vision_done = time.perf_counter()

        packed = (reduction.positions or ("packed" if reduction.layout == "grid" else "original")) == "packed"
        traced: list | None = [] if trace else None
        embeds, prefill = assemble(
            self.family,
            rows,
            merge_points,
            packed=packed and self.family.rope_axes == 1,
            scope=stage.scope if stage else "medium",
            trace=traced,
        )
        limits = self._token_limits(turns, cache, prefill.next_position, notes)
        options = self.config.generation
        texts = [
            RowText(self.family.tokenizer, options.stop, on_text if len(turns) == 1 else None) for _ in turns
        ]
        watcher = Watcher(texts, limits, self.family.end_ids, cancel)
        cache.expect(prefill)
        with _first_logits(self.model, logits) as first_logits:
            self._generate(embeds, prefill.padding, cache, watcher, options, max(limits))
        _synchronize(device)
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
        kept = _kept_counts(cache.kinds, len(turns))
        generations = [
            self._generation(turn, index, watcher, timings, kept[index], notes, _trace(turn, prefill, traced))
            for index, turn in enumerate(turns)
        ]
        if logits:
            pairs = zip(generations, first_logits[0], strict=True)
            generations = [replace(generation, logits=row) for generation, row in pairs]
        return generations, watcher

    def _token_limits(
        self, turns: list[_Turn], cache: MergeCache, next_position: list[int], notes: list[str]
    ) -> list[int]:
        """How many tokens each answer may have.

        Raises:
            ContextError: a prompt alone does not fit.
        """
        asked = self.config.generation.max_tokens
        limits = []
        for turn, position in zip(turns, next_position, strict=True):
            used = max(cache.get_seq_length() + turn.prompt_tokens, position)
            room = self.context_length - used
            if room < 1:
                raise ContextError(
                    f"the prompt has {used} tokens, the model's context is {self.context_length}: "
                    "use fewer frames (--num-frames), tiles (--max-tiles) or images, or a shorter text"
                )
            if room < asked:
                notes.append(f"the context leaves room for {room} of the {asked} tokens asked for")
            limits.append(min(room, asked))
        return limits

    def _generate(
        self,
        embeds: Tensor,
        padding: list[int],
        cache: MergeCache,
        watcher: Watcher,
        options: GenerationOptions,
        limit: int,
    ) -> None:
        """`transformers`' generate over new embeddings (B, T, C), behind what the cache holds."""
        past = cache.get_seq_length()
        batch, tokens, width = embeds.shape
        if past:
            # generate wants the whole width and looks only at what is behind the cache
            embeds = torch.cat([embeds.new_zeros(batch, past, width), embeds], dim=1)
        place = torch.arange(past + tokens, device=embeds.device) - past
        left = to_device(padding, embeds.device)[:, None]
        mask = ((place < 0) | (place >= left)).long()  # (B, past + T)
        sampled = options.temperature > 0
        settings = {"temperature": options.temperature, "top_p": options.top_p, "top_k": 0} if sampled else {}
        end = self.model.generation_config.eos_token_id
        first_end = end[0] if isinstance(end, list) else end
        generation = GenerationConfig(
            max_new_tokens=limit,
            do_sample=sampled,
            eos_token_id=end,
            pad_token_id=first_end if first_end is not None else 0,
            use_cache=True,
            **settings,
        )
        devices = [embeds.device] if embeds.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(options.seed)
            self.model.generate(
                inputs_embeds=embeds,
                attention_mask=mask,
                past_key_values=cache,
                generation_config=generation,
                stopping_criteria=[watcher],
            )

    def _generation(
        self,
        turn: _Turn,
        index: int,
        watcher: Watcher,
        timings: Timings,
        kept: tuple[int, int],
        notes: list[str],
        trace: dict[str, Any] | None,
    ) -> Generation:
        tokens = watcher.tokens[index]
        row = watcher.rows[index]
        text = row.finish(self.family.tokenizer.decode(tokens, skip_special_tokens=True))
        if row.stopped or (tokens and tokens[-1] in self.family.end_ids):
            finish_reason = "stop"
        else:
            finish_reason = None if watcher.cancelled else "length"
        features = turn.features
        visual = VisualUsage(
            patches=sum(f.patches for f in features),
            vision_kept=sum(f.vision_kept for f in features),
            llm_in=sum(f.visual for f in features),
            llm_kept=kept[0],
            newlines_in=sum(f.newlines for f in features),
            newlines_kept=kept[1],
        )
        return Generation(
            text=text,
            finish_reason=finish_reason,
            model=str(self.config.model.id),
            preset=self.config.preset,
            seed=self.config.generation.seed,
            config_hash=self.config.hash(),
            media=tuple(turn.prepared.media),
            usage=Usage(turn.prompt_tokens, len(tokens), visual),
            timings=timings,
            peak_bytes=_peak_bytes(self.family.device),
            id=turn.prepared.request.id or new_id(),
            token_ids=tuple(tokens),
            notes=tuple(notes),
            trace=trace,
        )


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
        trace: bool = False,
        logits: bool = False,
    ) -> Generation:
        """The next turn; arguments as for `Session.ask`.

        A turn that fails leaves the conversation as it was.
        """
        session = self.session
        request = Request(prompt, images, videos, self.system, id)
        counts = len(request.images), len(request.videos)
        user = prompts.user_message(session.family, prompt, *counts)
        if self.messages:
            last = self._pending[-1] if self._pending else None
            parts = prompts.later_turn(session.family, user, last, *counts)
        else:
            parts = prompts.first_turn(session.family, user, self.system, *counts)

        def answer() -> tuple[list[Generation], Watcher]:
            with session._exclusive():
                turn = _Turn(session._prepare(request, fresh=trace), parts)
                start = int(self.cache.next_position) if self.cache.next_position is not None else 0
                options = {"on_text": on_text, "cancel": cancel, "trace": trace, "logits": logits}
                return session._answer([turn], self.cache, [start], pending=self._pending, **options)

        before = self.cache.snapshot()
        try:
            generations, watcher = _in_thread(answer, cancel) if on_text or cancel else answer()
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


def _in_thread(work: Callable[[], Any], cancel: threading.Event | None) -> Any:
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


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _trace(turn: _Turn, prefill: Prefill, decoder: list | None) -> dict[str, Any] | None:
    """The merges of tower and decoder, and what they began with: kinds of the prompt's tokens, segments."""
    if decoder is None:
        return None
    return {
        "vision": [features.merges for features in turn.features],
        "segments": [pixels.segments for _, pixels in turn.prepared.slots.values()],
        "kinds": prefill.kinds,  # (1, T)
        "llm": decoder,
    }


def _kept_counts(kinds: Tensor | None, rows: int) -> list[tuple[int, int]]:
    """Image tokens and newlines that are left in the deepest cache, per row."""
    if kinds is None:
        return [(0, 0)] * rows
    return [((row == VISUAL).sum().item(), (row == NEWLINE).sum().item()) for row in kinds.cpu()]


def _peak_bytes(device: torch.device) -> int:
    """The most memory in use: the GPU's since the question began, else the process's so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


__all__ = ["Chat", "Request", "Session", "load"]
