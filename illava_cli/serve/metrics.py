"""Figures of a server, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from illava_cli.engine.record import Generation

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """What is counted and measured; nothing in it says what was asked."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"illava_{name}", words, labels, registry=registry)

        def histogram(name: str, words: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"illava_{name}", words, buckets=buckets, registry=registry)

        self.requests = counter("requests", "Requests by endpoint and status.", "endpoint", "status")
        self.prompt_tokens = counter("prompt_tokens", "Tokens of prompts that entered the decoder.")
        self.cached_tokens = counter("cached_tokens", "Tokens of prompts that a cache held.")
        self.completion_tokens = counter("completion_tokens", "Tokens of answers.")
        self.visual_tokens = counter("visual_tokens", "Visual tokens: unmerged, and kept.", "stage")
        self.saved_tokens = counter("saved_tokens", "Visual tokens that merging took away.")
        self.media = counter("media", "Pictures and clips, encoded or found encoded.", "how")
        self.conversations = counter("conversations", "Later turns, by whether a cache was found.", "found")
        self.rows = histogram("batch_rows", "Answers that took a step together.", ROWS)
        self.first_token = histogram("time_to_first_token_seconds", "Until the first token.", SECONDS)
        self.per_token = histogram("time_per_token_seconds", "Between tokens.", TOKEN_SECONDS)
        self.whole = histogram("request_seconds", "Until the answer's end.", SECONDS)
        self.reading = histogram("media_seconds", "Until a turn's media were read.", SECONDS)

    def watch(self, name: str, words: str, read: Callable[[], float]) -> None:
        """A value that is read when it is asked for."""
        Gauge(f"illava_{name}", words, registry=self.registry).set_function(read)

    def answered(self, generations: Sequence[Generation], media: int, first_s: float, whole_s: float) -> None:
        """Count the answers to one request; `media`: how many were read for it."""
        usage = generations[0].usage
        visual, reused = usage.visual, generations[0].media_reused
        kept = visual.llm_kept + visual.newlines_kept
        self.prompt_tokens.inc(usage.prompt_tokens)
        self.cached_tokens.inc(usage.cached_tokens)
        self.visual_tokens.labels("unmerged").inc(visual.unmerged)
        self.visual_tokens.labels("kept").inc(kept)
        self.saved_tokens.inc(max(0, visual.unmerged - kept))
        self.media.labels("reused").inc(reused)
        self.media.labels("encoded").inc(media - reused)
        self.first_token.observe(first_s)
        self.whole.observe(whole_s)
        for generation in generations:
            tokens = generation.usage.completion_tokens
            self.completion_tokens.inc(tokens)
            if tokens > 1:
                self.per_token.observe(generation.timings.decode_s / (tokens - 1))

    def text(self) -> bytes:
        """All of it, in Prometheus' form."""
        return generate_latest(self.registry)
