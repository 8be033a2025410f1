"""One layer under several reductions, at equal kept tokens: what does choosing and reducing cost?

A tower layer (attention, reduction, MLP) and a decoder layer (attention, MLP, reduction after it), of
the model's own shape with random weights. Beside the methods run the plain layer and, for the tower, a
`free` reduction that only cuts tokens off: a method's cost is its time beyond that. The methods are as
published: FastV (arXiv 2403.06764) takes the full attention map, which eager attention makes; ToMe
(arXiv 2210.09461) matches keys in two alternating sets. FastV was published for the decoder; in the
tower its map is averaged over all queries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from illava_cli.bench.layers import Attended, Layer, decoder_layer, tower_layer
from illava_cli.bench.samples import spread
from illava_cli.engine.generation import synchronize
from illava_cli.engine.memory import PeakMeter
from illava_cli.reduction import Candidates, Merge, decide, received_attention

REMOVED = 92  # of a tile's tokens, in one tower layer (the paper's r)
KEEP = 253 / 361  # of the visual tokens, in the decoder (the paper's keep)
TEXT = (14, 20)  # text tokens before and after the image

Method = Callable[[], Tensor]


@dataclass(frozen=True)
class Bench:
    """One layer with its input.

    Args:
        x: (1, N, C) hidden states.
        span: first and one-past-last visual token.
        r: visual tokens that leave.
    """

    layer: Layer
    x: Tensor
    span: tuple[int, int]
    r: int

    def visual(self, x: Tensor, dim: int = 1) -> Tensor:
        """The visual tokens of something with tokens along `dim`."""
        return x.narrow(dim, self.span[0], self.span[1] - self.span[0])

    def with_text(self, x: Tensor, visual: Tensor) -> Tensor:
        """`x` (1, N, C) with its visual tokens replaced by fewer."""
        return torch.cat([x[:, : self.span[0]], visual, x[:, self.span[1] :]], dim=1)


# --- reductions of (1, n, C), as published -------------------------------------------------------


def keep_highest(x: Tensor, scores: Tensor, r: int) -> Tensor:
    """FastV: the `r` lowest-scored tokens are dropped."""
    kept = scores.topk(x.shape[1] - r, dim=1).indices.sort(dim=1).values
    return x.gather(1, kept.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def bipartite(x: Tensor, metric: Tensor, r: int) -> Tensor:
    """ToMe: the `r` closest pairs between even and odd tokens merge, weighted by size."""
    metric = metric / metric.norm(dim=-1, keepdim=True)
    similarity = metric[:, ::2] @ metric[:, 1::2].transpose(-1, -2)
    closest, partner = similarity.max(dim=-1)
    order = closest.argsort(dim=-1, descending=True)
    leaving, staying = order[:, :r, None], order[:, r:, None]
    into = partner[..., None].gather(1, leaving)

    def joined(y: Tensor) -> Tensor:
        even, odd = y[:, ::2], y[:, 1::2]
        width = y.shape[-1]
        kept = even.gather(1, staying.expand(-1, -1, width))
        moved = even.gather(1, leaving.expand(-1, -1, width))
        odd = odd.scatter_reduce(1, into.expand(-1, -1, width), moved, reduce="sum")
        return torch.cat([kept, odd], dim=1)

    size = torch.ones_like(x[..., :1])
    return joined(x * size) / joined(size)


def merged(x: Tensor, scores: Tensor, r: int) -> Tensor:
    """iLLaVA: the r+1 lowest-scored become one."""
    return Merge.from_assignment(
        decide("illava", Candidates.of(scores, [(x.shape[1], r)])), x.shape[1] - r
    ).apply(x)


# --- a tower layer: attention, reduction, MLP ------------------------------------------------------


def tower_methods(bench: Bench) -> dict[str, Method]:
    """Each method as one run of the layer."""
    layer, x, r = bench.layer, bench.x, bench.r

    def plain() -> Tensor:
        return layer.mlp(layer.attend(x).hidden_states)

    def free() -> Tensor:
        return layer.mlp(layer.attend(x).hidden_states[:, r:])

    def illava() -> Tensor:
        seen = layer.attend(x)
        scores = received_attention(seen.query, seen.key, scaling=layer.scaling)
        return layer.mlp(merged(seen.hidden_states, scores, r))

    def fastv() -> Tensor:
        seen = layer.attend(x, full_map=True)
        return layer.mlp(keep_highest(seen.hidden_states, seen.weights.mean(1).mean(1), r))

    def tome() -> Tensor:
        seen = layer.attend(x)
        return layer.mlp(bipartite(seen.hidden_states, seen.key.mean(1), r))

    return {"plain": plain, "free": free, "illava": illava, "fastv": fastv, "tome": tome}


def visual_scores(bench: Bench, seen: Attended) -> Tensor:
    """Eq. 2: attention received from the visual tokens, (1, N)."""
    start, stop = bench.span
    groups = torch.full(bench.x.shape[:2], -1, device=bench.x.device)
    groups[:, start:stop] = 0
    return received_attention(
        seen.query[:, :, start:stop],
        seen.key,
        scaling=bench.layer.scaling,
        causal_offset=0,
        query_start=start,
        query_group=groups[:, start:stop],
        key_group=groups,
    )


def scoring_memory(bench: Bench) -> dict[str, int | None]:
    """Extra bytes of scoring a decoder layer's visual tokens: as we do it, and from the full map."""
    layer, device = bench.layer, bench.x.device
    seen = layer.attend(bench.x)
    extra = {}
    for name, run in (
        ("illava", lambda: visual_scores(bench, seen)),
        ("full map", lambda: layer.attention_map(seen).mean(1)),
    ):
        with PeakMeter(device) as meter:
            run()
        extra[name] = meter.peak_bytes
    return extra


# --- a decoder layer, with the reduction after it ------------------------------------------------


def decoder_methods(bench: Bench) -> dict[str, Method]:
    """Each method as one run of the layer, by whose attention it ranks."""
    layer, x, r = bench.layer, bench.x, bench.r

    def reduced(hidden_states: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
        y = layer.mlp(hidden_states)
        return bench.with_text(y, reduce(bench.visual(y)))

    def plain() -> Tensor:
        return layer.mlp(layer.attend(x).hidden_states)

    def illava_visual() -> Tensor:
        seen = layer.attend(x)
        scores = visual_scores(bench, seen)
        return reduced(seen.hidden_states, lambda y: merged(y, bench.visual(scores), r))

    def illava_last() -> Tensor:
        seen = layer.attend(x)
        last = seen.query[:, :, -1:]
        scores = received_attention(
            last, seen.key, scaling=layer.scaling, causal_offset=0, query_start=x.shape[1] - 1
        )
        return reduced(seen.hidden_states, lambda y: merged(y, bench.visual(scores), r))

    def fastv() -> Tensor:
        seen = layer.attend(x, full_map=True)
        scores = seen.weights.mean(1)[:, -1]
        return reduced(seen.hidden_states, lambda y: keep_highest(y, bench.visual(scores), r))

    def tome() -> Tensor:
        seen = layer.attend(x)
        keys = bench.visual(seen.key.mean(1))
        return reduced(seen.hidden_states, lambda y: bipartite(y, keys, r))

    return {
        "plain": plain,
        "illava": illava_visual,
        "illava, last query": illava_last,
        "fastv": fastv,
        "tome": tome,
    }


# --- measuring ------------------------------------------------------------------------------------


def benches(
    config: PreTrainedConfig, device: torch.device, dtype: torch.dtype, tokens: int | None
) -> Iterator[tuple]:
    """The layers of a model's shape: (name, `Bench`, its methods, the method whose time is the base).

    Args:
        tokens: visual tokens of the decoder layer; None: those of one tile, as in the tower.
    """
    vision, text = config.vision_config, config.text_config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patches = (vision.image_size // vision.patch_size) ** 2
        tower = tower_layer(vision, device, dtype)
        x = torch.randn(1, patches, vision.hidden_size).to(device, dtype)
        r = min(REMOVED, patches // 4)
        yield "tower", Bench(tower, x, (0, patches), r), tower_methods, "free"

        before, behind = TEXT
        visual = tokens or patches
        x = torch.randn(1, before + visual + behind, text.hidden_size).to(device, dtype)
        decoder = decoder_layer(text, x.shape[1], device, dtype)
        r = visual - round(visual * KEEP)
        yield "decoder", Bench(decoder, x, (before, before + visual), r), decoder_methods, "plain"


@torch.inference_mode()
def measure_rivals(
    config: PreTrainedConfig,
    device: torch.device,
    dtype: torch.dtype,
    rounds: int,
    progress: Callable[[str], None],
    tokens: int | None = None,
) -> list[dict[str, Any]]:
    """One table for each layer; all methods take turns in every round."""
    results = []
    for name, bench, make, base in benches(config, device, dtype, tokens):
        methods = make(bench)
        seconds: dict[str, list[float]] = {method: [] for method in methods}
        left, peaks = {}, {}
        for method, run in methods.items():
            progress(f"{name} layer: warm-up of {method}")
            with PeakMeter(device) as meter:
                left[method] = run().shape[1]
            peaks[method] = meter.peak_bytes
        for number in range(rounds):
            progress(f"{name} layer: round {number + 1} of {rounds}")
            for method, run in methods.items():
                seconds[method].append(_seconds(run, device))
        results.append(_table(name, bench, seconds, left, peaks, base))
        if name == "decoder":
            results[-1]["scoring_bytes"] = scoring_memory(bench)
    return results


def _seconds(run: Method, device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - started


def _table(
    name: str,
    bench: Bench,
    seconds: dict[str, list[float]],
    tokens: dict[str, int],
    peaks: dict[str, int | None],
    base: str,
) -> dict[str, Any]:
    plain = spread(seconds["plain"])["median"]
    rows = {}
    for method, values in seconds.items():
        beyond = spread([a - b for a, b in zip(values, seconds[base], strict=True)])
        rows[method] = {
            "tokens_out": tokens[method],
            "peak_bytes": peaks[method],
            "seconds": spread(values),
            "seconds_beyond_layer": None if method in ("plain", base) else beyond,
            "share_of_plain_layer": None if method in ("plain", base) else beyond["median"] / plain,
        }
    return {
        "layer": name,
        "width": bench.x.shape[-1],
        "tokens_in": bench.x.shape[1],
        "visual_tokens": bench.span[1] - bench.span[0],
        "removed": bench.r,
        "rounds": len(seconds["plain"]),
        "methods": rows,
    }
