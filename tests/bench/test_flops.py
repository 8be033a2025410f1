"""The analytic counts equal what torch's counter sees, layer by layer."""

import re
from collections import defaultdict
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from illava_cli.bench.flops import (
    DecoderShape,
    LinearShape,
    ModelShape,
    RequestCounts,
    TowerShape,
    count,
    decoder_layer,
    linear,
    linear_layer,
    seen_pairs,
    tower_layer,
)
from illava_cli.bench.geometry import merged_counts, model_shape, pairs_within
from illava_cli.engine.request import Request
from illava_cli.models import decoder_merge, tower_pass
from tests.conftest import clip, picture
from tests.schedules import SCHEDULES
from tests.stages import film, page, settings_of

MEDIA = {
    "tiles": ([picture(200, 150, 1)], []),
    "two images": ([picture(120, 90, 2), picture(64, 140, 3)], []),
    "video": ([], [clip(4, 64, 96)]),
}
CHOSEN = [
    "next grid, authors",
    "llava grid, paper",
    "llava grid, authors",
    "llava faithful, original",
    "qwen, authors",
    "qwen2.5, authors",
    "qwen3, paper",
    "internvl, packed",
    "gemma4, paper",
]


def test_by_hand():
    assert linear(3, (2, 5), (5, 7)) == 2 * 3 * (10 + 35)
    tower = TowerShape(width=4, inner=8, layers=1, patch_values=12)
    assert tower_layer(tower, 5, 3) == 2 * 5 * 4 * 16 + 4 * 25 * 4 + 2 * 3 * 2 * 32
    assert tower_layer(tower, 5, 3, pairs=13) == 2 * 5 * 4 * 16 + 4 * 13 * 4 + 2 * 3 * 2 * 32
    gated = replace(tower, gated=True)
    assert tower_layer(gated, 5, 3) == tower_layer(tower, 5, 3) + 2 * 3 * 32
    assert pairs_within(torch.tensor([0, 0, 1, 1, 1, 6, 4, 6, 7, 5])) == 4 + 9 + 4 + 1 + 1 + 1
    text = DecoderShape(width=4, query_width=4, key_width=2, inner=8, layers=1, vocabulary=10)
    matrices = 16 + 8 + 8 + 16 + 3 * 32
    assert decoder_layer(text, 3) == 2 * 3 * matrices + 4 * 4 * (1 + 2 + 3)
    assert decoder_layer(text, 1, past=6) == 2 * matrices + 4 * 4 * 7


def test_windows_and_layers_apart_by_hand():
    for tokens, past, window in ((5, 0, 3), (5, 2, 3), (4, 7, 3), (3, 0, 8), (1, 9, 4)):
        slow = sum(min(past + number, window) for number in range(1, tokens + 1))
        assert seen_pairs(tokens, past, window) == slow
    text = DecoderShape(width=4, query_width=4, key_width=2, inner=8, layers=2, vocabulary=10)
    own = replace(text, key_width=0, values=False, window=2, further=12)
    assert decoder_layer(own, 3) == 2 * 3 * (16 + 16 + 3 * 32 + 12) + 4 * 4 * (1 + 2 + 2)
    both = ModelShape(TowerShape(4, 8, 1, 12), (), 1, replace(text, apart={1: own}))
    flops = count(both, RequestCounts((), (3, 3), 1))
    assert flops.decoder == (decoder_layer(text, 3), decoder_layer(own, 3))
    alone = replace(both, decoder=replace(both.decoder, tail=1, apart={1: replace(own, ahead=5)}))
    assert count(alone, RequestCounts((), (3, 3), 1)).decoder[1] == decoder_layer(own, 1, 2) + 2 * 3 * 5


def test_experts_gates_and_linear_attention_by_hand():
    text = DecoderShape(width=4, query_width=4, key_width=2, inner=8, layers=2, vocabulary=10)
    chosen = replace(text, router=16)
    assert decoder_layer(chosen, 3) == decoder_layer(text, 3) + 2 * 3 * 4 * 16
    assert decoder_layer(replace(text, gated=True), 3) == decoder_layer(text, 3) + 2 * 3 * 4 * 4
    own = LinearShape(key_heads=1, value_heads=2, key_dim=3, value_dim=5, kernel=4)
    assert (own.channels, own.value_width, own.state) == (2 * 3 + 10, 10, 2 * 15)
    mixed = replace(text, linear=own, linear_layers=(0,))
    matrices = 4 * 16 + 4 * 10 + 10 * 4 + 2 * 4 * 2 + 3 * 32
    assert linear_layer(mixed, 7) == 7 * (2 * matrices + 2 * 16 * 4 + 6 * 30)
    counts = RequestCounts((), (7, 7), 2)
    flops = count(ModelShape(TowerShape(4, 8, 1, 12), (), 1, mixed), counts)
    assert flops.decoder == (linear_layer(mixed, 7), decoder_layer(mixed, 7))
    assert flops.decoding == flops.head + linear_layer(mixed, 1) + decoder_layer(mixed, 1, 7)


@pytest.fixture
def free_scores(monkeypatch):
    """Scores that cost nothing: the bound does not count them."""

    def scores(query, key, **options):
        return torch.rand(query.shape[0], key.shape[2], generator=torch.Generator().manual_seed(0))

    monkeypatch.setattr(tower_pass, "received_attention", scores)
    monkeypatch.setattr(decoder_merge, "received_attention", scores)


def counted(session, media, new_tokens):
    """torch's count of a request: by tower layer, by decoder layer, and of everything."""
    session = session.updated([f"generation.max_tokens={new_tokens}"])
    session.features.clear()
    decoder, handles = defaultdict(int), []
    with FlopCounterMode(display=False) as counter:
        for index, layer in enumerate(session.family.text_model.layers):

            def border(*args, index=index, sign=1):
                decoder[index] += sign * counter.get_total_flops()

            handles.append(layer.register_forward_pre_hook(partial(border, sign=-1)))
            handles.append(layer.register_forward_hook(border))
        answer = session.ask("What is it?", *media, trace=True)
    for handle in handles:
        handle.remove()
    tower = defaultdict(int)
    for name, operations in counter.get_flop_counts().items():
        # by a layer's parts: where the tower merges, its loop runs them and not the block
        if found := re.search(r"(?:layers?|blocks)\.(\d+)\.\w+$", name):
            tower[int(found[1])] += sum(operations.values())
    by_layer = [[layers[index] for index in sorted(layers)] for layers in (tower, decoder)]
    return answer, *by_layer, counter.get_total_flops()


def empty_cells(family, pixels, counts, layer):
    """Operations per channel of a windowed layer on cells that hold no token: run, but not counted."""
    pairs = 0
    for medium, done in zip(pixels, counts.media, strict=True):
        if layer in done.windowed:
            rows, columns = (-(-n // family.window) for n in medium.form.groups)
            patches = family.window**2 * family.patches_per_token
            pairs += medium.segments * rows * columns * patches**2 - done.windowed[layer]
    return 4 * pairs


def masked(shape):
    """What lies before a window is masked, and computed all the same."""
    apart = {number: replace(own, window=None) for number, own in shape.decoder.apart.items()}
    return replace(shape, decoder=replace(shape.decoder, apart=apart))


@pytest.mark.parametrize(
    ("name", "media"), [(n, m) for n in CHOSEN for m in MEDIA if not (n.startswith("next") and m == "video")]
)
def test_equals_the_counter(name, media, open_session, free_scores):
    family_name, settings = SCHEDULES[name]
    # the counter sees no SDPA on a CPU, and eager attention whole, without the causal half
    session = open_session(family_name, *settings, "model.attn=eager", fresh=True)
    session.model.generation_config.eos_token_id = None
    family, shape = session.family, model_shape(session.family)
    answer, tower, prefill, total = counted(session, MEDIA[media], 1)
    images, videos = MEDIA[media]
    options = session.config.media
    pixels = [family.preprocess_image(x, options, len(images) == 1) for x in images]
    pixels += [family.preprocess_video([family.resize_frame(f, len(x)) for f in x]) for x in videos]
    counts = merged_counts(session, pixels, answer, 1)
    flops = count(shape, counts)
    empty = [empty_cells(family, pixels, counts, layer) * shape.tower.width for layer in range(len(tower))]
    assert [counted + unused for counted, unused in zip(flops.tower, empty, strict=True)] == tower
    full = []
    for number, (layer, tokens) in enumerate(zip(flops.decoder, counts.decoder, strict=True)):
        own = shape.decoder.apart.get(number, shape.decoder)
        queries = 1 if number >= (shape.decoder.tail or 6) else tokens
        unseen = queries * tokens - seen_pairs(queries, tokens - queries, own.window)
        full.append(layer + 4 * unseen * own.query_width)
    ahead = [2 * tokens * own.ahead for tokens in counts.decoder]
    assert [layer - share for layer, share in zip(full, ahead, strict=True)] == prefill
    whole = flops.ttft + sum(empty) + sum(full) - sum(flops.decoder)
    assert whole == pytest.approx(total, rel=0.02)  # rotary embeddings are not counted
    assert counts.media[0].patches[1] < counts.media[0].patches[0]
    assert (counts.decoder[-1] < counts.decoder[0]) == (name != "gemma4, paper")

    *_, longer = counted(session, MEDIA[media], 4)
    decoding = count(masked(shape), merged_counts(session, pixels, answer, 4)).decoding
    assert decoding == pytest.approx(longer - total, rel=0.02)


STAGES = [
    ("llava_onevision", "pixels, tower"),
    ("qwen2_5_vl", "frames, early"),
    ("qwen2_5_vl", "pixels, tower"),
    ("qwen3_vl", "clip, pixels"),
    ("internvl", "clip, tower"),
    ("gemma4", "still"),
]


@pytest.mark.parametrize(("family_name", "name"), STAGES)
def test_what_enters_the_tower_equals_the_counter(family_name, name, open_session, free_scores):
    settings = settings_of(name, family_name)
    session = open_session(family_name, *settings, "model.attn=eager", fresh=True)
    family, shape = session.family, model_shape(session.family)
    media = [page(150, 120, 1)], [film(6, 128, 96, 1)]
    answer, tower, *_ = counted(session, media, 1)
    prepared = session.prepare(Request("?", *media), fresh=True)
    pixels = [one.pixels for one in prepared.slots.values()]
    counts = merged_counts(session, pixels, answer, 1)
    empty = [0] * len(tower)
    if family_name == "qwen2_5_vl":
        empty = [run_on_windows(family, pixels, counts, layer) for layer in range(len(tower))]
    flops = count(shape, counts)
    width = 4 * shape.tower.width
    assert [own + width * unused for own, unused in zip(flops.tower, empty, strict=True)] == tower


def run_on_windows(family, pixels, counts, layer):
    """Pairs of patches of a windowed layer of which one is none: run, but not counted."""
    pairs, done = 0, 0
    of_medium = [sum(1 for n in {*medium.entering} if n) for medium in pixels]
    passes = iter(counts.media)
    for medium, number in zip(pixels, of_medium, strict=True):
        for one in [next(passes) for _ in range(number)]:
            if layer in one.windowed:
                rows, columns = (-(-n // family.window) for n in medium.form.groups)
                cells = family.window**2 * family.patches_per_token
                pairs += one.segments_at(layer) * rows * columns * cells**2
                done += one.windowed[layer]
    return pairs - done


def test_unmodified_model(lab):
    """Without a merge every layer of a kind counts alike."""
    from illava_cli.bench.compare import STOCK, _our_tokens, _stock_tokens
    from illava_cli.bench.media import synthetic_image

    families = {"llava_next": 1, "llava_onevision": 1, "qwen2_vl": 1, "qwen2_5_vl": 2, "qwen3_vl": 1}
    for family, kinds in families.items():
        small = lab(family)
        variants = small.variants(synthetic_image(5, small.family), 1)
        theirs, tokens = _stock_tokens(small, variants[STOCK], 3)
        ours, our_tokens = _our_tokens(small, variants["off"], 3)
        # transformers also runs the layers after the one whose features are taken
        unused = {"llava_next": 1}.get(family, 0)
        (whole,), (run,) = theirs.media, ours.media
        assert (whole.segments, whole.layers) == (run.segments, run.layers + run.layers[-1:] * unused)
        assert (theirs.decoder, theirs.new_tokens) == (ours.decoder, ours.new_tokens)
        assert tokens == our_tokens
        assert len(set(count(small.shape, theirs).tower)) == kinds  # windowed layers are cheaper
