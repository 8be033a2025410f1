"""A clip may have any number of frames: the way to the tower takes the memory of a few."""

from __future__ import annotations

import tracemalloc

import pytest

from illava_cli.config import MediaOptions
from illava_cli.engine.features import FeatureCache
from illava_cli.engine.media import MediaReader
from illava_cli.engine.request import Request
from illava_cli.engine.rules import Rules
from illava_cli.media import spool
from tests.media_files import write_clip

FEW, MANY = 64, 1024
RULES = Rules({}, 0, FeatureCache(0))
PIXELS = 112 * 112


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("long") / "clip.mp4", frames=MANY, size=(64, 64))


def way_to_the_tower(family, path, frames):
    """The most memory on it, in bytes, the key of the features, and how many steps there were."""
    options = MediaOptions(num_frames=frames, min_pixels=PIXELS, max_pixels=PIXELS)
    tracemalloc.start()
    try:
        prepared = MediaReader(family, options, RULES, None).prepare(Request("What?", videos=[path]), True)
        (encoded,) = prepared.slots.values()
        pixels = encoded.pixels
        for start in range(0, pixels.segments, 8):
            pixels.pixel_values(start, start + 8)
        return tracemalloc.get_traced_memory()[1], encoded.key, pixels.segments
    finally:
        tracemalloc.stop()


def test_a_thousand_frames_take_the_memory_of_few(open_session, long_clip, monkeypatch):
    family = open_session("qwen2_vl", "preset=off").family
    held = FEW * 3 * PIXELS
    in_memory, key, _ = way_to_the_tower(family, long_clip, MANY)
    assert in_memory > 10 * held
    monkeypatch.setattr(spool, "HELD_BYTES", held)
    few, _, _ = way_to_the_tower(family, long_clip, FEW)
    many, same_key, segments = way_to_the_tower(family, long_clip, MANY)
    assert segments == MANY / 2
    assert same_key == key
    assert few > held
    assert many < few + held / 2
