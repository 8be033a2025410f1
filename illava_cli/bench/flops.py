"""Floating-point operations of a request, counted from token counts: no model is run.

A product of (m, k) and (k, n) matrices is 2 m n k. Full attention over N tokens of width C is 4 N^2 C;
in the decoder a query sees the tokens up to its own, which is half of that, in windows the tokens of its own,
which counts no empty cell. Norms, activations, rotary
embeddings, softmax and whatever a reduction costs are left out, so that the ratio of two counts bounds
the speed-up that fewer tokens can give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TowerShape:
    """A vision tower.

    `patch_values` are the numbers in one patch of pixels; a gated MLP has 3 matrices; `class_tokens` go
    through each layer beside a segment's patches; what layers of `taps` give goes through a projector too.
    """

    width: int
    inner: int
    layers: int
    patch_values: int
    gated: bool = False
    class_tokens: int = 0
    taps: tuple[int, ...] = ()


Projector = tuple[tuple[int, int], ...]  # (inputs, outputs) of its matrices, per token that leaves the tower


@dataclass(frozen=True)
class LinearShape:
    """Linear attention by a gated delta rule: heads and their widths.

    `kernel` inputs of each channel go into its convolution.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int

    @property
    def value_width(self) -> int:
        return self.value_heads * self.value_dim

    @property
    def channels(self) -> int:
        """That are convolved: queries, keys and values."""
        return 2 * self.key_heads * self.key_dim + self.value_width

    @property
    def state(self) -> int:
        """Numbers in a row's state."""
        return self.value_heads * self.key_dim * self.value_dim


@dataclass(frozen=True)
class DecoderShape:
    """A decoder with grouped queries and a gated MLP; `vocabulary` is the width of the output head.

    Where there are experts, `inner` is that of those which work for a token, and `router` their number;
    `gated`: queries come with a gate; `values` have a matrix of their own; `window`: tokens that one sees;
    `further` numbers in matrices that each token goes through, and `ahead` in those before all layers;
    `linear`: the shape of the layers `linear_layers`; `apart`: layers that are unlike the others; from
    `tail` on a prompt's last token goes alone.
    """

    width: int
    query_width: int
    key_width: int
    inner: int
    layers: int
    vocabulary: int
    router: int = 0
    gated: bool = False
    values: bool = True
    window: int | None = None
    further: int = 0
    ahead: int = 0
    tail: int | None = None
    linear: LinearShape | None = None
    linear_layers: tuple[int, ...] = ()
    apart: Mapping[int, DecoderShape] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelShape:
    """Widths of a model's matrices."""

    tower: TowerShape
    projector: Projector
    patches_per_token: int
    decoder: DecoderShape


@dataclass(frozen=True)
class TowerPass:
    """A medium's way through the tower: per layer, patches of a segment in its attention and its MLP.

    Segments of a medium of which unlike numbers of patches enter go as passes of their own.

    Args:
        segments: that enter.
        windowed: by layer that attends within windows, pairs of patches that see each other, of all segments.
        left: of the segments from a layer on, where whole ones merge.
    """

    segments: int
    layers: tuple[tuple[int, int], ...]
    windowed: dict[int, int] = field(default_factory=dict)
    left: dict[int, int] = field(default_factory=dict)

    @property
    def patches(self) -> tuple[int, int]:
        """Patches of a segment that enter and that leave."""
        return self.layers[0][0], self.layers[-1][1]

    def segments_at(self, layer: int) -> int:
        """Segments in a layer."""
        return [self.segments, *(left for first, left in sorted(self.left.items()) if first <= layer)][-1]


@dataclass(frozen=True)
class RequestCounts:
    """Tokens of one request: its media in the tower, its prompt in each decoder layer, its answer."""

    media: tuple[TowerPass, ...]
    decoder: tuple[int, ...]
    new_tokens: int


@dataclass(frozen=True)
class Flops:
    """Operations by part; `tower` and `decoder` (the prefill) by layer."""

    patches: int
    tower: tuple[int, ...]
    projector: int
    decoder: tuple[int, ...]
    head: int
    decoding: int

    @property
    def vision(self) -> int:
        return self.patches + sum(self.tower) + self.projector

    @property
    def prefill(self) -> int:
        return sum(self.decoder) + self.head

    @property
    def ttft(self) -> int:
        """Up to the first token."""
        return self.vision + self.prefill

    @property
    def total(self) -> int:
        return self.ttft + self.decoding


def linear(tokens: int, *shapes: tuple[int, int]) -> int:
    """`tokens` vectors through matrices of these (inputs, outputs)."""
    return 2 * tokens * sum(inputs * outputs for inputs, outputs in shapes)


def tower_layer(shape: TowerShape, attended: int, kept: int, pairs: int | None = None) -> int:
    """A block: attention on `attended` tokens, the MLP on the `kept` ones.

    Args:
        pairs: of a query and a key that it sees; by default all tokens see all.
    """
    width, inner = shape.width, shape.inner
    pairs = attended**2 if pairs is None else pairs
    attention = linear(attended, *[(width, width)] * 4) + 4 * pairs * width
    return attention + linear(kept, *[(width, inner)] * (1 + shape.gated), (inner, width))


def decoder_layer(shape: DecoderShape, tokens: int, past: int = 0) -> int:
    """A layer on `tokens` new tokens after `past` cached ones."""
    width, query, key = shape.width, shape.query_width, shape.key_width
    matrices = [(width, query * (1 + shape.gated)), *[(width, key)] * (1 + shape.values), (query, width)]
    seen = seen_pairs(tokens, past, shape.window)
    further = 2 * tokens * shape.further
    return linear(tokens, *matrices) + 4 * seen * query + perceptron(shape, tokens) + further


def layer_of(shape: DecoderShape, layer: int, tokens: int, past: int = 0) -> int:
    """The layer of that number on `tokens` new tokens after `past` cached ones."""
    if layer in shape.linear_layers:
        return linear_layer(shape, tokens)
    own = shape.apart.get(layer, shape)
    ahead = 2 * tokens * own.ahead
    if shape.tail is not None and layer >= shape.tail:
        return decoder_layer(own, 1, past + tokens - 1) + ahead
    return decoder_layer(own, tokens, past) + ahead


def seen_pairs(tokens: int, past: int, window: int | None = None) -> int:
    """Pairs of a new token and one that it sees: those up to its own, or the last of them."""
    if window is None or past + tokens <= window:
        return tokens * past + tokens * (tokens + 1) // 2
    growing = max(0, window - past)  # tokens that see all before them
    return growing * past + growing * (growing + 1) // 2 + (tokens - growing) * window


def linear_layer(shape: DecoderShape, tokens: int) -> int:
    """A layer of linear attention, its rule taken token by token: three products with the state."""
    own, width = shape.linear, shape.width
    matrices = [(width, own.channels), (width, own.value_width), (own.value_width, width)]
    matrices += [(width, own.value_heads)] * 2
    rule = 2 * own.channels * own.kernel + 6 * own.state
    return linear(tokens, *matrices) + tokens * rule + perceptron(shape, tokens)


def perceptron(shape: DecoderShape, tokens: int) -> int:
    """The gated MLP of a decoder layer, and what chooses its experts."""
    width, inner = shape.width, shape.inner
    return linear(tokens, (width, inner), (width, inner), (inner, width), (width, shape.router))


def count(shape: ModelShape, counts: RequestCounts) -> Flops:
    """The operations of one request."""
    tower, decoder = shape.tower, shape.decoder
    patches = projector = 0
    by_layer = [0] * max((len(medium.layers) for medium in counts.media), default=0)
    for medium in counts.media:
        entering, leaving = medium.patches
        patches += medium.segments * linear(entering, (tower.patch_values, tower.width))
        depth = len(medium.layers)
        projected = [(depth, leaving), *((layer, medium.layers[layer][1]) for layer in tower.taps)]
        for layer, patches_left in projected:
            tokens = patches_left // shape.patches_per_token
            projector += medium.segments_at(layer) * linear(tokens, *shape.projector)
        for layer, patches_left in enumerate(medium.layers):
            segments = medium.segments_at(layer)
            attended, kept = (n + tower.class_tokens for n in patches_left)
            pairs = medium.windowed.get(layer, segments * attended**2)
            by_layer[layer] += tower_layer(tower, segments * attended, segments * kept, pairs)
    head = linear(1, (decoder.width, decoder.vocabulary))
    decoding = 0
    for step in range(counts.new_tokens - 1):
        decoding += head + sum(
            layer_of(decoder, layer, 1, past + step) for layer, past in enumerate(counts.decoder)
        )
    return Flops(
        patches=patches,
        tower=tuple(by_layer),
        projector=projector,
        decoder=tuple(layer_of(decoder, layer, tokens) for layer, tokens in enumerate(counts.decoder)),
        head=head,
        decoding=decoding,
    )
