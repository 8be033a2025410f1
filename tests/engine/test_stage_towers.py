"""Stages before and in the tower beside the unmodified tower's own layers, one segment after another.

The stock layers are handed the patches that enter; who merges is said by loops over tokens.
"""

import dataclasses
import math

import pytest
import torch
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

from illava_cli.engine.request import Request
from illava_cli.models import encoder
from tests.reference import clips, frames, qwen3_vl
from tests.reference.merging import attend, received
from tests.reference.splices import pool_with_tensors
from tests.stages import COMMON, film, under
from tests.stock import Stock
from tests.tolerances import FLOAT64

CASES = {
    "pixels": ("pixels={tau: 0}",),
    "still": ("frames={still: 0.5}", "pixels={tau: 3}"),
    "frames": ("frames={layers: [0, 3], keep: [0.7, 0.6]}",),
    "early": ("frames={method: early-tom, layers: [2], keep: 0.5}",),
    "clip": ("input={method: distinct, keep: 0.4}",),
    "clip, pixels": ("input={method: holitom, keep: 0.5}", "pixels={tau: 0}"),
    "clip, frames": ("input={method: vidcom2, keep: 0.5}", "frames={layers: [1], keep: 0.6}"),
    "budget": ("media.video_budget=20",),
    "few pixels": ("frames={still: 3, still_frames: 3}", "pixels={tau: 8, every: 2, keep: 0.4}"),
    "runs": (
        "frames={method: runs, layers: [-1], keep: 0.5, still: 3}",
        "input={method: fastvid, keep: 0.4}",
    ),
}
FILM = film(7, 112, 84, 3)


@dataclasses.dataclass
class Segment:
    """What is left of one: tokens (n, ...), their places, and what the last layer gave them."""

    number: int
    x: torch.Tensor
    places: list[int]
    rotary: tuple = ()
    taps: list = dataclasses.field(default_factory=list)
    scores: list[float] = ()


def joined(segments: list[Segment], left: int, method: str) -> list[Segment]:
    """Fewer segments, whole ones merged by the plain definition."""
    unit = [s.x.reshape(len(s.places), -1).tolist() for s in segments]
    found = frames.METHODS[method](unit, left)

    def mixed(members, of):
        return sum(weight * of(segments[i]) for i, weight in members.items())

    return [
        dataclasses.replace(
            segments[anchor],
            x=mixed(members, lambda s: s.x),
            taps=[mixed(members, lambda s, n=n: s.taps[n]) for n in range(len(segments[anchor].taps))],
        )
        for anchor, members in sorted(found.items())
    ]


def through(segments, depth, run, schedule, given=lambda *_: None):
    """Through the stock layers; frames merge before those that the schedule names."""
    budget = {} if schedule.frames is None else schedule.frames.of(len(segments))
    for layer in range(depth):
        if layer in budget:
            segments = joined(segments, budget[layer], schedule.frames.method)
        for segment in segments:
            run(layer, segment)
            given(layer, segment)
    return segments


# --- Qwen ---------------------------------------------------------------------------------------------


def qwen(model, pixels, schedule):
    visual, (steps, h, w) = model.model.visual, pixels.form.grid
    corners = [(y, x) for y in range(0, h, 2) for x in range(0, w, 2)]
    where = [(y + i, x + j) for y, x in corners for i in (0, 1) for j in (0, 1)]
    freq = visual.rotary_pos_emb.inv_freq.float()
    angles = torch.stack([torch.cat([y * freq, x * freq]).repeat(2) for y, x in where])
    values = pixels.pixel_values(0, steps).double().view(steps, h * w, -1)
    segments = []
    for step in range(steps):
        places = entering(pixels, step)
        rows = [4 * place + i for place in places for i in range(4)]
        x = visual.patch_embed(values[step])
        if hasattr(visual, "pos_embed"):
            x = x + qwen3_vl.places(visual, h, w, where)
        if rows:
            segments.append(Segment(step, x[rows], places, (angles[rows].cos(), angles[rows].sin())))

    def run(layer, segment):
        block = visual.blocks[layer]
        of_window = [range(len(segment.x))]
        windowed = layer not in getattr(model.config.vision_config, "fullatt_block_indexes", [layer])
        if windowed:
            of_window = windows(segment.places, w // 2)
        attn, each = block.attn, torch.zeros(len(segment.x), dtype=torch.float64)
        parts = attn.qkv(block.norm1(segment.x)).unflatten(1, (3, attn.num_heads, -1)).unbind(1)
        q, k = apply_rotary_pos_emb_vision(*parts[:2], *segment.rotary)
        for rows in map(list, of_window):
            _, attention = attend(*(y[rows].transpose(0, 1) for y in (q, k, parts[2])), attn.scaling)
            factor = len(rows) if windowed else 1
            each[rows] = torch.tensor(received(attention, "paper"), dtype=torch.float64) * factor
        segment.scores = each.view(-1, 4).mean(1).tolist()
        order = torch.tensor([row for rows in of_window for row in rows])
        borders = torch.tensor([0, *(len(rows) for rows in of_window)]).cumsum(0, dtype=torch.int32)
        rotary = tuple(y[order] for y in segment.rotary)
        segment.x = block(segment.x[order], cu_seqlens=borders, position_embeddings=rotary)[order.argsort()]

    def given(layer, segment):
        taps = getattr(visual, "deepstack_visual_indexes", ())
        if layer in taps:
            segment.taps.append(visual.deepstack_merger_list[taps.index(layer)](segment.x))

    segments = through(segments, len(visual.blocks), run, schedule, given)
    for segment in segments:
        segment.x = visual.merger(segment.x)
    return segments, pixels.tokens


def windows(places, columns, side=2):
    """The rows of each window's patches, four a group."""
    found = {}
    for n, place in enumerate(places):
        window = place // columns // side, place % columns // side
        found.setdefault(window, []).extend(range(4 * n, 4 * n + 4))
    return [found[window] for window in sorted(found)]


def entering(pixels, segment):
    every = range(pixels.tokens)
    return [n for n in every if pixels.entered is None or pixels.entered[segment, n]]


# --- LLaVA --------------------------------------------------------------------------------------------


def llava(model, pixels, schedule):
    tower = model.model.vision_tower
    values, segments = pixels.pixel_values(0, pixels.segments).double(), []
    for frame in range(pixels.segments):
        if places := entering(pixels, frame):
            segments.append(Segment(frame, tower.embeddings(values[frame][None])[0][places], places))

    def run(number, segment):
        layer = tower.encoder.layers[number]
        attn, normed = layer.self_attn, layer.layer_norm1(segment.x)
        qkv = [project(normed) for project in (attn.q_proj, attn.k_proj, attn.v_proj)]
        qkv = [x.unflatten(1, (attn.num_heads, -1)).transpose(0, 1) for x in qkv]
        segment.scores = received(attend(*qkv, attn.scale)[1], "paper")
        segment.x = layer(segment.x[None], None)[0]

    depth = len(tower.encoder.layers) + 1 + model.config.vision_feature_layer
    segments = through(segments, depth, run, schedule)
    side, out = 6, 3
    for segment in segments:
        features = model.model.multi_modal_projector(segment.x)
        scores = torch.tensor(segment.scores, dtype=torch.float64)
        if len(segment.places) == side**2:
            segment.x = model.model.apply_pooling(features[None])[0]
            grid = scores.view(1, 1, side, side)
            grid = torch.nn.functional.interpolate(grid, size=[out, out], mode="bilinear")
            segment.places, segment.scores = list(range(out**2)), grid.flatten().tolist()
            continue
        yx = torch.tensor([divmod(place, side) for place in segment.places])
        left = max(1, round(out**2 * len(yx) / side**2))
        order = scores.argsort(descending=True, stable=True)[:left].sort().values
        segment.x, at = pool_with_tensors(features, yx, scores, left, (side, side), (out, out))
        coarse = ((yx[order] + 0.5) * out / side).floor().long()
        segment.scores = scores[order][(coarse[:, 0] * out + coarse[:, 1]).argsort(stable=True)].tolist()
        segment.places = (at[:, 0] * out + at[:, 1]).tolist()
    return segments, out**2


TOWERS = {"llava_onevision": llava, "qwen2_vl": qwen, "qwen2_5_vl": qwen, "qwen3_vl": qwen}


# --- the whole clip -----------------------------------------------------------------------------------


def over_clip(segments, method, left):
    """Each survivor's features, and which token of the row it was."""
    tokens = [(s, i) for s in segments for i in range(len(s.places))]
    # two of LLaVA's that stand in one cell are two places to whoever compares frames
    cells = [cell for s in segments for cell in apart(s.places)]
    number = {id(s): n for n, s in enumerate(segments)}
    keys = [(number[id(s)], cell) for (s, _), cell in zip(tokens, cells, strict=True)]
    clip = {key: s.x[i].tolist() for key, (s, i) in zip(keys, tokens, strict=True)}
    scores = {key: s.scores[i] for key, (s, i) in zip(keys, tokens, strict=True)}
    found = clips.METHODS[method](clip, scores, left)
    rows = {key: row for row, key in enumerate(keys)}
    return [(rows[key], {rows[k]: weight for k, weight in found[key].items()}) for key in sorted(found)]


def apart(places, cells=9):
    if len({*places}) == len(places):
        return places
    taken = []
    for place in places:
        taken.append(max([place, *(t + 1 for t in taken[-1:])]))
    return [min(t, cells - len(places) + i) for i, t in enumerate(taken)]


@pytest.fixture(scope="module")
def stock(checkpoints):
    models = {}

    def get(family):
        if family not in models:
            models[family] = Stock(checkpoints(family), dtype=torch.float64).model
        return models[family]

    return get


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("family", TOWERS)
@torch.no_grad()
def test_features_are_those_of_the_stock_layers(family, name, open_session, stock):
    session = under(open_session(family, "preset=off", "model.dtype=float64"), *COMMON, *CASES[name])
    (pixels,) = [one.pixels for one in session.prepare(Request("?", videos=[FILM])).slots.values()]
    schedule = session.rules.schedule(pixels)
    (ours,) = encoder.encode(session.family, [pixels], [schedule])
    segments, cells = TOWERS[family](stock(family), pixels, schedule)
    x = torch.cat([s.x for s in segments])
    taps = [torch.cat(parts) for parts in zip(*(s.taps for s in segments), strict=True)]
    places = [s.number * cells + place for s in segments for place in s.places]
    left = len(x)
    if schedule.clip is not None:
        left = round(left * schedule.clip.keep)
    if pixels.budget is not None:
        left = pixels.budget - (family == "llava_onevision")
    if left < len(x):
        method = "distinct" if schedule.clip is None else schedule.clip.method
        kept = over_clip(segments, method, left)
        places = [places[row] for row, _ in kept]
        x, *taps = (
            torch.stack([sum(weight * y[i] for i, weight in members.items()) for _, members in kept])
            for y in (x, *taps)
        )
    visual = ours.kinds == 1
    assert ours.place[visual].tolist() == places
    torch.testing.assert_close(ours.embeds[visual], x, **FLOAT64)
    assert len(taps) == len(ours.injections)
    for number, tap in enumerate(taps):
        torch.testing.assert_close(ours.injections[number], tap, **FLOAT64)
    assert 0 < len(x) < math.prod((pixels.segments, cells))
