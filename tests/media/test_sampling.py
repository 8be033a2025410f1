from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from illava_cli.errors import MediaError, UsageError
from illava_cli.media import frame_indices


def slow_indices(ticks: list[int], num_frames: int | None, fps: Fraction | None) -> list[int]:
    """The definition in exact fractions: for each wanted time the nearest frame, even index on a tie."""
    first, last = ticks[0], ticks[-1]
    if num_frames is not None:
        if num_frames >= len(ticks):
            return list(range(len(ticks)))
        steps = max(num_frames - 1, 1)
        wanted = [first + Fraction(k * (last - first), steps) for k in range(num_frames)]
    elif fps is not None:
        wanted, time = [], Fraction(first)
        while time <= last:
            wanted.append(time)
            time += 1000 / fps
    else:
        return list(range(len(ticks)))
    return sorted({min(range(len(ticks)), key=lambda i: (abs(ticks[i] - time), i % 2)) for time in wanted})


def test_matches_the_exact_definition_on_random_clips():
    rng = random.Random(7)
    for _ in range(150):
        count = rng.randint(1, 40)
        gaps = [0] + [rng.choice((40, 40, 40, 33, 34, 1, 500)) for _ in range(count - 1)]
        ticks = np.cumsum(gaps).tolist()
        times = [tick / 1000 for tick in ticks]
        num_frames = rng.randint(1, 50)
        assert frame_indices(times, num_frames=num_frames) == slow_indices(ticks, num_frames, None)
        fps = Fraction(rng.randint(1, 240), rng.choice((1, 2, 7)))
        assert frame_indices(times, fps=float(fps)) == slow_indices(ticks, None, fps)
        assert frame_indices(times) == list(range(count))


def test_windows_on_random_clips_hold_exactly_the_frames_inside():
    rng = random.Random(8)
    for _ in range(200):
        ticks = np.cumsum([0] + [rng.randint(1, 90) for _ in range(rng.randint(1, 30))]).tolist()
        start, end = sorted(rng.sample(range(0, ticks[-1] + 2), 2))
        inside = [i for i, tick in enumerate(ticks) if start <= tick <= end]
        times = [tick / 1000 for tick in ticks]
        window = {"start": start / 1000, "end": end / 1000}
        if not inside:
            with pytest.raises(MediaError):
                frame_indices(times, **window)
            continue
        assert frame_indices(times, **window) == inside
        picked = frame_indices(times, num_frames=3, **window)
        assert set(picked) <= set(inside)
        assert picked[0] == inside[0]


@pytest.mark.parametrize("rate", [12, 25, 30, 30000 / 1001])
def test_constant_rate_equals_rounded_linspace(rate: float):
    for count in range(1, 60):
        times = [index / rate for index in range(count)]
        for num_frames in range(1, count + 3):
            expected = np.linspace(0, count - 1, min(num_frames, count)).round().astype(int).tolist()
            assert frame_indices(times, num_frames=num_frames) == expected


def test_timestamps_rounded_to_milliseconds_choose_the_same_frames():
    for count in range(2, 60):
        rounded = [round(index / 30, 3) for index in range(count)]
        for num_frames in range(1, count):
            expected = np.linspace(0, count - 1, num_frames).round().astype(int).tolist()
            assert frame_indices(rounded, num_frames=num_frames) == expected


def test_constant_rate_inside_a_window_rounds_by_the_clip_index():
    times = [index / 10 for index in range(100)]
    expected = np.linspace(31, 54, 7).round().astype(int).tolist()
    assert frame_indices(times, num_frames=7, start=3.1, end=5.4) == expected


def test_variable_rate_is_even_in_time_not_in_count():
    times = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 10.0]
    assert frame_indices(times, num_frames=3) == [0, 5, 6]


def test_fps_counts_from_the_first_frame_of_the_window():
    times = [index / 30 for index in range(90)]
    assert frame_indices(times, fps=1) == [0, 30, 60]
    assert frame_indices(times, fps=2, start=0.5) == [15, 30, 45, 60, 75]
    assert frame_indices(times, fps=1000) == list(range(90))


def test_window_edges_tolerate_rounded_timestamps():
    assert frame_indices([0.0, 0.3333333, 0.6666667], start=0.3334, end=0.6664) == [1, 2]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"num_frames": 2, "fps": 1.0}, "both"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"fps": 0.0}, "fps is 0"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": float("inf")}, "fps is inf"),
        ({"start": -1.0}, "start is -1"),
        ({"end": float("inf")}, "end is inf"),
        ({"start": 2.0, "end": 2.0}, "not before end"),
        ({"end": 0.0}, "not before end"),
    ],
)
def test_contradictory_options_are_usage_errors(options: dict, word: str):
    with pytest.raises(UsageError, match=word):
        frame_indices([0.0, 1.0, 2.0, 3.0], **options)


def test_window_without_a_frame_names_the_end_of_the_clip():
    with pytest.raises(MediaError, match=r"within 9 s to the end.*at 2\.000 s"):
        frame_indices([0.0, 1.0, 2.0], start=9)
    with pytest.raises(MediaError, match="no frame at all"):
        frame_indices([])


def test_a_bound_on_frames_holds_however_they_are_asked_for():
    times = [i / 10 for i in range(101)]
    assert frame_indices(times, fps=1, max_frames=11) == frame_indices(times, fps=1)
    assert frame_indices(times, fps=1, max_frames=5) == frame_indices(times, num_frames=5)
    assert frame_indices(times, fps=1000, max_frames=200) == list(range(101))
    assert frame_indices(times, max_frames=3) == [0, 50, 100]
    assert frame_indices(times, num_frames=9, max_frames=3) == [0, 50, 100]
    assert frame_indices(times, num_frames=2, max_frames=3) == [0, 100]
    assert frame_indices(times, fps=1000, start=2, end=4, max_frames=3) == [20, 30, 40]
    assert frame_indices([5.0], fps=30, max_frames=1) == [0]
