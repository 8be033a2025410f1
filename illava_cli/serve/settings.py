"""How a server serves: where, for whom, how much at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from illava_cli.media.access import Access
from illava_cli.openai.asked import Bounds
from illava_cli.serve.gate import Gate


@dataclass(frozen=True)
class ServeOptions:
    """What `illava serve` is told beside its model.

    Args:
        host, port: where it listens; port 0 takes a free one.
        name: of the model in answers.
        rows: answers at a time; None: what suits the device.
        queue: requests that wait for one of them; more are refused.
        chunk: tokens of a newcomer's prompt between two steps of the others.
        cache_tokens: that the KV caches of all rows may hold; None: by the memory that is free.
        request_s: seconds that a request may take in all.
        drain_s: seconds for what is in flight when the server ends.
        readers: processes that read media.
        media_s: seconds for the media of a turn.
        media_memory_mb: that a reader may take.
        conversations_mb: KV caches of conversations that may go on.
        maps_mb: merge maps that are kept.
        access: which media are got.
        bounds: what a request may ask for.
        gate: who is let in.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    name: str = ""
    rows: int | None = None
    queue: int = 64
    chunk: int | None = 512
    cache_tokens: int | None = None
    request_s: float = 600.0
    drain_s: float = 60.0
    readers: int = 2
    media_s: float = 120.0
    media_memory_mb: int = 4096
    conversations_mb: int = 1024
    maps_mb: int = 64
    access: Access = field(default_factory=Access)
    bounds: Bounds = field(default_factory=Bounds)
    gate: Gate = field(default_factory=Gate)
