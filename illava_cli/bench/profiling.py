"""One request part by part (the paper's figure 2a), for the unmodified model and for each preset.

Parts are told apart at the borders of modules and functions, with the device synchronised at each, and
time spent in a part that another part calls counts for the inner one only. A profiled request is
therefore a little slower than a free one; its shares are what to read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial, wraps
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from illava_cli.bench import media as bench_media
from illava_cli.bench.compare import Learned
from illava_cli.bench.lab import WARM_TOKENS, Lab, Plan, in_turn
from illava_cli.bench.media import Medium
from illava_cli.bench.variants import Ours, Stock
from illava_cli.engine import media as engine_media
from illava_cli.engine import rules, runner
from illava_cli.engine.generation import synchronize
from illava_cli.models import decoder, decoder_merge, encoder, tower
from illava_cli.models.family import Family
from illava_cli.models.media import Pixels

PARTS = (
    "decode",
    "preprocess",
    "tower",
    "tower_scoring",
    "tower_merging",
    "packing",
    "prefill",
    "llm_scoring",
    "llm_merging",
    "decoding",
    "other",
)
FEATURES = "get_image_features", "get_video_features"  # of the unmodified model


class Stopwatch:
    """Seconds by part; a part within another interrupts it."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._open: list[str] = []
        self._since = 0.0

    def _lap(self) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def start(self, part: str) -> None:
        """Begin a part."""
        self._lap()
        self._open.append(part)

    def stop(self) -> None:
        """End the part that began last."""
        self._lap()
        self._open.pop()

    def timed(self, part: str, function: Callable) -> Callable:
        """`function`, its time counted for `part`."""

        @wraps(function)  # transformers looks at signatures
        def run(*args: Any, **kwargs: Any) -> Any:
            self.start(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.stop()

        return run

    def timed_parts(self, part: str, function: Callable[..., Generator]) -> Callable[..., Generator]:
        """`timed` for a function that pauses: its pauses do not count."""

        def run(*args: Any, **kwargs: Any) -> Generator:
            work = function(*args, **kwargs)
            while True:
                try:
                    self.timed(part, next)(work)
                except StopIteration as end:
                    return end.value
                yield

        return run


@contextmanager
def _replaced(owner: Any, name: str, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """`owner.name` wrapped for as long as the context is open."""
    own = name in vars(owner)
    original = getattr(owner, name)
    setattr(owner, name, wrap(original))
    try:
        yield
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)


@contextmanager
def _module(watch: Stopwatch, module: nn.Module, part: Callable[[], str]) -> Iterator[None]:
    """Count the calls of a module for `part()`."""
    before = module.register_forward_pre_hook(lambda *args: watch.start(part()))
    behind = module.register_forward_hook(lambda *args: watch.stop())
    try:
        yield
    finally:
        before.remove()
        behind.remove()


@contextmanager
def _watched(watch: Stopwatch, family: Family, model: nn.Module) -> Iterator[None]:
    """The borders of all parts, in our code and in `model`, which is ours or the unmodified one."""
    passes = iter(["prefill"])
    inner = model.model

    def timed(part: str) -> Callable[[Callable], Callable]:
        return lambda function: watch.timed(part, function)

    def with_timed_pixels(prepare: Callable[..., Pixels]) -> Callable[..., Pixels]:
        def run(*args: Any) -> Pixels:
            pixels = watch.timed("preprocess", prepare)(*args)
            return replace(pixels, pixel_values=watch.timed("preprocess", pixels.pixel_values))

        return run

    def with_timed_head(head: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *args: watch.timed(next(passes, "decoding"), head)(*args)

    with ExitStack() as stack:
        for module in (engine_media, bench_media):
            for name in ("read_picture", "read_clip"):
                stack.enter_context(_replaced(module, name, timed("decode")))
        for name in ("preprocess_image", "preprocess_video"):
            stack.enter_context(_replaced(family, name, with_timed_pixels))
        replacements = [
            (family, "resize_frame", "preprocess"),
            (tower.TowerPass, "score", "tower_scoring"),
            (tower.TowerPass, "decide", "tower_merging"),
            (tower.TowerTokens, "after", "tower_merging"),
            (decoder_merge.Prompt, "merged", "llm_merging"),
            (decoder_merge.Scoring, "_rank", "llm_scoring"),
            (decoder, "step", "decoding"),
            (rules.Rules, "admitted", "preprocess"),
            (tower.TowerPass, "fewer_frames", "tower_merging"),
            (encoder, "fewer_tokens", "tower_merging"),
            (encoder.Encoding, "condensed", "packing"),
            (encoder.Encoding, "in_one_row", "packing"),
            (encoder, "decoder_tokens", "packing"),
            (runner, "assemble", "packing"),
            # InternVL has one for both: its frames are tiles
            *((inner, name, "packing") for name in FEATURES if hasattr(inner, name)),
        ]
        stack.enter_context(_replaced(decoder, "prefill", partial(watch.timed_parts, "prefill")))
        stack.enter_context(_replaced(family, "logits", with_timed_head))
        for owner, name, part in replacements:
            stack.enter_context(_replaced(owner, name, timed(part)))
        vision = inner.vision_tower if hasattr(inner, "vision_tower") else inner.visual
        projector = inner.multi_modal_projector if hasattr(inner, "multi_modal_projector") else vision.merger
        stack.enter_context(_module(watch, vision, lambda: "tower"))
        stack.enter_context(_module(watch, projector, lambda: "packing"))
        # the unmodified model runs its tower inside of its first pass
        stack.enter_context(_module(watch, model, lambda: next(passes, "decoding")))
        yield


def profile(
    lab: Lab,
    media: Sequence[Medium],
    plan: Plan,
    progress: Callable[[str], None],
    learned: Learned = lambda result, running: None,
) -> list[dict[str, Any]]:
    """Seconds and shares of each part, one result for each medium.

    Args:
        learned: takes each result as it grows, before each variant's turn.
    """
    results = []
    for medium in media:
        label = medium.description.label
        variants = lab.variants(medium, 1)
        for name, variant in variants.items():
            progress(f"{label}: warm-up of {name}")
            variant.run([medium.fresh(lab.next_number(1))], WARM_TOKENS)
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
        for number in plan.each_round():
            progress(f"{label}: round {number + 1} of {plan.rounds}")
            for name, variant in in_turn(variants, number):
                learned(_result(medium, taken), name)
                taken[name].append(_one(lab, variant, plan.new_tokens))
        results.append(_result(medium, taken))
    return results


def _result(medium: Medium, taken: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    return {
        "medium": medium.description.record(),
        "variants": {name: _summary(rounds) for name, rounds in taken.items() if rounds},
    }


def _one(lab: Lab, variant: Ours | Stock, new_tokens: int) -> dict[str, float]:
    model = variant.model if isinstance(variant, Stock) else lab.session.model
    watch = Stopwatch(lab.family.device)
    media = [variant.medium.fresh(lab.next_number(1))]
    with _watched(watch, lab.family, model):
        watch.timed("other", variant.run)(media, new_tokens)
    return watch.seconds


def _summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    seconds = {part: median(taken[part] for taken in rounds) for part in PARTS}
    whole = sum(seconds.values())
    shares = {part: value / whole for part, value in seconds.items()}
    reduction = {
        "tower": _share(seconds, ("tower_scoring", "tower_merging"), "tower"),
        "prefill": _share(seconds, ("llm_scoring", "llm_merging"), "prefill"),
    }
    return {
        "seconds": seconds,
        "share": shares,
        "reduction_share": reduction,
        "whole_s": whole,
        "rounds": len(rounds),
    }


def _share(seconds: dict[str, float], parts: tuple[str, ...], rest: str) -> float:
    """What choosing and merging tokens takes of a stage."""
    taken = sum(seconds[part] for part in parts)
    return taken / (taken + seconds[rest]) if taken else 0.0
