"""What comes of an answer: its `Generation`, with counts, times and the trace."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from illava_cli.engine.answer import Answer
from illava_cli.engine.record import Generation, Timings, Usage, VisualUsage, new_id
from illava_cli.engine.request import Slot, Turn
from illava_cli.models.family import Family
from illava_cli.trace import NEWLINE, VISUAL, DecoderTrace, Trace


def generation_of(answer: Answer, family: Family, load_seconds: float) -> Generation:
    """An answer that ended, or was ended."""
    turn, tokens = answer.turn, answer.tokens
    config, media_s = turn.config, turn.prepared.seconds
    ready = turn.began + turn.vision_s
    said = tokens[:-1] if tokens[-1] in answer.end_ids else tokens
    return Generation(
        text=answer.text.finish(family.tokenizer.decode(said, skip_special_tokens=True)),
        finish_reason=answer.finish_reason,
        model=str(config.model.id),
        preset=config.preset,
        seed=config.generation.seed,
        config_hash=config.hash(),
        media=tuple(turn.prepared.media),
        usage=_usage(turn, len(tokens)),
        timings=Timings(
            load_s=load_seconds,
            media_s=media_s,
            vision_s=turn.vision_s,
            prefill_s=answer.first_at - ready,
            decode_s=answer.last_at - answer.first_at,
            ttft_s=media_s + answer.first_at - turn.began,
        ),
        peak_bytes=peak_bytes(family.device),
        media_reused=sum(round.reused for round in (*turn.earlier, turn)),
        id=turn.prepared.request.id or new_id(),
        token_ids=tuple(tokens),
        logprobs=_logprobs(answer, family),
        notes=tuple(turn.notes),
        trace=answer.trace,
        logits=answer.logits,
    )


def unanswered(turn: Turn, load_seconds: float) -> Generation:
    """What comes of a turn that was cancelled before it had a token."""
    config, request = turn.config, turn.prepared.request
    return Generation(
        text="",
        finish_reason=None,
        model=str(config.model.id),
        preset=config.preset,
        seed=config.generation.seed,
        config_hash=config.hash(),
        media=tuple(turn.prepared.media),
        timings=Timings(load_s=load_seconds, media_s=turn.prepared.seconds),
        id=request.id or new_id(),
    )


def _usage(turn: Turn, tokens: int) -> Usage:
    """Token counts of a turn with an answer of `tokens`, and of the rounds that were read with it."""
    rounds = [*turn.earlier, turn]
    features = [one for round in rounds for one in round.features]
    visual = VisualUsage(
        patches=sum(f.patches for f in features),
        left_out=sum(f.left_out for f in features),
        vision_kept=sum(f.vision_kept for f in features),
        llm_in=sum(f.visual for f in features),
        llm_kept=sum(round.kept[0] for round in rounds),
        newlines_in=sum(f.newlines for f in features),
        newlines_kept=sum(round.kept[1] for round in rounds),
        unmerged=sum(f.unmerged for f in features),
        frames_in=sum(f.frames[0] for f in features),
        frames_kept=sum(f.frames[1] for f in features),
    )
    return Usage(sum(round.prompt_tokens for round in rounds), tokens, visual, turn.cached_tokens)


def _logprobs(answer: Answer, family: Family) -> tuple[dict, ...] | None:
    """Log-probabilities by token; None where none were asked for."""
    if answer.turn.config.generation.logprobs is None:
        return None
    return tuple(told_logprobs(answer.logprobs, family))


def told_logprobs(logprobs: Sequence[dict], family: Family) -> list[dict]:
    """Log-probabilities by token, as in `Answer`, with ids as the text that they stand for."""

    def text(token: int) -> str:
        return family.tokenizer.decode([token])

    return [
        {
            "token": text(one["token"]),
            "logprob": one["logprob"],
            "top": [{"token": text(token), "logprob": value} for token, value in one["top"]],
        }
        for one in logprobs
    ]


def kept_counts(kinds: Tensor) -> list[tuple[int, int]]:
    """Image tokens and newlines among what is left of the prompts (B, T), per row."""
    return list(
        map(tuple, torch.stack([(kinds == kind).sum(1) for kind in (VISUAL, NEWLINE)], dim=1).tolist())
    )


def trace_of(
    family: Family,
    turn: Turn,
    kinds: Tensor,
    where: Mapping[Slot, Tensor],
    decoder: DecoderTrace | None,
) -> Trace | None:
    """What was kept of a turn's way through tower and decoder, where that was asked for."""
    if decoder is None:
        return None
    media = [one.pixels for one in turn.prepared.slots.values()]
    return {
        "vision": [features.way.merges for features in turn.features],
        "tower_layers": family.tower_layers,
        "patches_per_token": family.patches_per_token,
        "segments": [pixels.segments for pixels in media],
        "views": [pixels.form.views() for pixels in media],
        "padding": [pixels.form.outside() for pixels in media],
        "layout": [features.layout for features in turn.features],
        "where": [where[slot] for slot in turn.prepared.slots],
        "kinds": kinds,
        "system_tokens": turn.system_tokens,
        "llm": decoder.merges,
        "llm_scores": decoder.scores,
        "vision_attention": [features.way.attention for features in turn.features],
        "llm_attention": decoder.attention,
    }


def synchronize(device: torch.device) -> None:
    """Wait for what the device was told to do, so that a clock read next says when it ended."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def reset_peak(device: torch.device) -> None:
    """Let `peak_bytes` begin anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


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
