"""Text that people read: the line of statistics under an answer, its long form, and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from illava_cli.figures import stages

if TYPE_CHECKING:
    from illava_cli.engine.record import Generation, VisualUsage
    from illava_cli.engine.session import Chat
    from illava_cli.evals.pair import Agreement, Pair

UNITS = ("kB", "MB", "GB", "TB")


def size(count: float) -> str:
    """Bytes as people say them: `900 B`, `1.2 GB`."""
    if count < 1000:
        return f"{count:.0f} B"
    power = min(int(math.log(count, 1000)), len(UNITS))
    return f"{count / 1000**power:.1f} {UNITS[power - 1]}"


def seconds(value: float) -> str:
    """Seconds with as many digits as are worth reading."""
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"


def visual_stages(visual: VisualUsage) -> str:
    """The visual tokens at each stage."""
    return stages((visual.patches, visual.vision_kept, visual.llm_in, visual.llm_kept))


def statistics(answer: Generation) -> str:
    """One line: visual tokens by stage | tokens and time | first token | peak memory."""
    usage, timings = answer.usage, answer.timings
    parts = []
    if usage.visual.patches:
        parts.append(f"{visual_stages(usage.visual)} visual tokens")
    tokens = f"{usage.completion_tokens} token{'' if usage.completion_tokens == 1 else 's'}"
    limit = " (stopped by --max-tokens)" if answer.finish_reason == "length" else ""
    parts.append(f"{tokens} in {seconds(timings.ttft_s + timings.decode_s)}{limit}")
    parts.append(f"first token {seconds(timings.ttft_s)}")
    if answer.peak_bytes:
        parts.append(f"peak {size(answer.peak_bytes)}")
    return " | ".join(parts)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns padded with spaces, two between them; the last column is not padded."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    padded = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join(padded)


def side_by_side(pair: Pair) -> str:
    """Both answers of a comparison, a table of what they took, and how far they agree."""
    names = "off", pair.merged.preset
    answers = pair.plain, pair.merged
    wide = max(map(len, names))
    texts = [f"{name:<{wide}}  {answer.text.strip()}" for name, answer in zip(names, answers, strict=True)]
    times = {
        "media": "media_s",
        "vision": "vision_s",
        "prefill": "prefill_s",
        "first token": "ttft_s",
        "decoding": "decode_s",
    }
    rows = [
        ["visual tokens", *(visual_stages(a.usage.visual) for a in answers)],
        ["prompt tokens", *(str(a.usage.prompt_tokens) for a in answers)],
        ["answer tokens", *(str(a.usage.completion_tokens) for a in answers)],
        *([name, *(seconds(getattr(a.timings, field)) for a in answers)] for name, field in times.items()),
        [
            "peak beyond weights",
            *("-" if p is None else size(p) for p in (pair.plain_peak, pair.merged_peak)),
        ],
    ]
    return "\n".join([*texts, "", table(["", *names], rows), "", agreement(pair.agreement)])


def agreement(found: Agreement) -> str:
    """How far two answers agree, in one line."""
    first = found.first_difference
    tokens = "the same tokens" if first is None else f"they differ from token {first + 1} on"
    kl = "" if found.kl is None else f"; KL of the first token {found.kl:.2g} nats"
    return f"{tokens}{kl}"


def chat_statistics(answer: Generation, chat: Chat) -> list[str]:
    """The lines of `/stats`: the last answer's tokens and times, and how full the chat is."""
    usage, timings = answer.usage, answer.timings
    visual = usage.visual
    lines = []
    if visual.patches:
        lines.append(
            f"visual tokens  {visual.patches} patches -> {visual.vision_kept} after the tower "
            f"-> {visual.llm_in} into the LLM -> {visual.llm_kept} kept"
        )
        if visual.newlines_in:
            lines.append(f"newlines       {visual.newlines_in} -> {visual.newlines_kept}")
    limit = " (stopped by max_tokens)" if answer.finish_reason == "length" else ""
    lines.append(f"tokens         {usage.prompt_tokens} in, {usage.completion_tokens} out{limit}")
    times = ("media", timings.media_s), ("tower", timings.vision_s), ("prefill", timings.prefill_s)
    times += ("decoding", timings.decode_s), ("first token", timings.ttft_s)
    lines.append("times          " + ", ".join(f"{name} {seconds(value)}" for name, value in times))
    cached, last = chat.cached_tokens, chat.deepest_tokens
    lines.append(f"cache          {cached} tokens in the first layer, {last} in the last")
    lines.append(f"context        {chat.context_used} of {chat.session.context_length} tokens used")
    if answer.peak_bytes:
        lines.append(f"memory         peak {size(answer.peak_bytes)}")
    return lines
