"""Decoding a pass: how many tokens there is room for, `transformers`' generate, what comes of each row."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor

from illava_cli.config import GenerationOptions
from illava_cli.engine.record import Usage, VisualUsage
from illava_cli.engine.request import Turn
from illava_cli.engine.stream import Watcher
from illava_cli.errors import ContextError
from illava_cli.models.cache import NEWLINE, VISUAL, MergeCache, Prefill
from illava_cli.models.family import Family
from illava_cli.models.hf import CACHE
from illava_cli.models.host import to_device
from illava_cli.trace import Trace


@contextmanager
def first_logits(model: nn.Module, wanted: bool) -> Iterator[list[Tensor]]:
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


def token_limits(
    turns: list[Turn], cached: int, next_position: list[int], asked: int, context: int, notes: list[str]
) -> list[int]:
    """How many tokens each answer may have.

    Args:
        cached: tokens in the first layer's cache.
        next_position: where each answer begins.
        asked: tokens that are asked for.
        context: tokens that the decoder was made for.

    Raises:
        ContextError: a prompt alone does not fit.
    """
    limits = []
    for turn, position in zip(turns, next_position, strict=True):
        used = max(cached + turn.prompt_tokens, position)
        room = context - used
        if room < 1:
            raise ContextError(
                f"the prompt has {used} tokens, the model's context is {context}: "
                "use fewer frames (--num-frames), tiles (--max-tiles) or images, or a shorter text"
            )
        if room < asked:
            notes.append(f"the context leaves room for {room} of the {asked} tokens asked for")
        limits.append(min(room, asked))
    return limits


class Unspoken(LogitsProcessor):
    """Ids that are never chosen, greedy or sampled: `unspoken` (vocabulary,) is True for them."""

    def __init__(self, unspoken: Tensor):
        self.unspoken = unspoken

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores.masked_fill(self.unspoken, -torch.inf)


def generate(
    model: nn.Module,
    embeds: Tensor,
    padding: list[int],
    cache: MergeCache,
    watcher: Watcher,
    options: GenerationOptions,
    limit: int,
    unspoken: Tensor,
) -> None:
    """`transformers`' generate over new embeddings (B, T, C), behind what the cache holds.

    Args:
        unspoken: (vocabulary,) True for ids that are never chosen.
    """
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
    end = model.generation_config.eos_token_id
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
        model.generate(
            inputs_embeds=embeds,
            attention_mask=mask,
            generation_config=generation,
            logits_processor=[Unspoken(unspoken)],
            stopping_criteria=[watcher],
            **{CACHE: cache},
        )


def finish_reason(watcher: Watcher, index: int) -> str | None:
    """Why the answer of a row ended: `stop`, `length`, or None where it was cancelled."""
    tokens = watcher.tokens[index]
    if watcher.rows[index].stopped or (tokens and tokens[-1] in watcher.end_ids):
        return "stop"
    return "length" if watcher.done[index] or not watcher.cancelled else None


def usage(turn: Turn, tokens: int, kept: tuple[int, int]) -> Usage:
    """Token counts of a turn with an answer of `tokens`; `kept` is its part of `kept_counts`."""
    features = turn.features
    visual = VisualUsage(
        patches=sum(f.patches for f in features),
        vision_kept=sum(f.vision_kept for f in features),
        llm_in=sum(f.visual for f in features),
        llm_kept=kept[0],
        newlines_in=sum(f.newlines for f in features),
        newlines_kept=kept[1],
    )
    return Usage(turn.prompt_tokens, tokens, visual)


def kept_counts(kinds: Tensor | None, rows: int) -> list[tuple[int, int]]:
    """Image tokens and newlines that are left in the deepest cache, per row."""
    if kinds is None:
        return [(0, 0)] * rows
    return [((row == VISUAL).sum().item(), (row == NEWLINE).sum().item()) for row in kinds.cpu()]


def trace_of(family: Family, turn: Turn, prefill: Prefill) -> Trace | None:
    """What was kept of a turn's way through tower and decoder, where that was asked for."""
    if prefill.trace is None:
        return None
    media = [pixels for _, pixels in turn.prepared.slots.values()]
    return {
        "vision": [features.merges for features in turn.features],
        "tower_layers": family.tower_layers,
        "patches_per_token": family.patches_per_token,
        "segments": [pixels.segments for pixels in media],
        "views": [pixels.form.views() for pixels in media],
        "padding": [pixels.form.outside() for pixels in media],
        "layout": [features.layout for features in turn.features],
        "starts": turn.starts,
        "kinds": prefill.kinds,
        "system_tokens": turn.system_tokens,
        "llm": prefill.trace.merges,
        "llm_scores": prefill.trace.scores,
        "vision_attention": [features.attention for features in turn.features],
        "llm_attention": prefill.trace.attention,
    }


def synchronize(device: torch.device) -> None:
    """Wait for what the device was told to do, where it works by itself."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(device: torch.device) -> int:
    """The most memory in use: the GPU's since the question began, else the process's so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
