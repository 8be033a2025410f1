"""Which frames enter the tower, held against loops over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from illava_cli.engine.request import Request
from illava_cli.models import schedule
from illava_cli.models.schedule import windows
from illava_cli.reduction.pixels import Cells, surprise
from tests.reference import frames
from tests.stages import COMMON, film, noise, storm, under

STILL = 3  # levels of 255


def cells(picture, rows, columns):
    """The pixels of each cell, (frames, height, width, 3), what follows the last whole one aside."""
    picture = np.stack(picture)
    _, height, width, _ = picture.shape
    h, w = height // rows, width // columns
    return [
        picture[:, r * h : (r + 1) * h, c * w : (c + 1) * w].astype(np.float64)
        for r in range(rows)
        for c in range(columns)
    ]


def moved(picture, before, rows, columns):
    """Whether any cell differs by more than `STILL` on average."""
    pairs = zip(cells(picture, rows, columns), cells(before, rows, columns), strict=True)
    return any(math.fsum(abs(a - b).ravel()) / a.size > STILL for a, b in pairs)


def looks(picture, rows, columns):
    """Of each cell the mean colours of its upper and lower half, or of its two frames, about 0."""
    found = []
    for cell in cells(picture, rows, columns):
        half = cell.shape[1] // 2
        halves = [cell[:, :half], cell[:, half : 2 * half]] if len(cell) == 1 else list(cell)
        found.append([float(part[..., i].mean()) - 127.5 for part in halves for i in range(3)])
    return found


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl"])
@pytest.mark.parametrize("some", [1, 2, 3])
def test_of_frames_that_stand_still_so_many_enter(family, some, open_session):
    """Counted from the first of a run, with which they are compared."""
    plain = under(open_session(family, "preset=off"), *COMMON)
    steps = film(6, 112, 84, 3)[::2].repeat(8, 0)
    (whole,) = [one.pixels for one in plain.prepare(Request("?", videos=[steps])).slots.values()]
    view = whole.form.views()[0]
    wanted, first, run = [], None, 0
    for step in range(whole.segments):
        picture = whole.pictures(step)
        if first is not None and not moved(picture, first, view.rows, view.columns):
            run += 1
        else:
            first, run = picture, 1
        wanted += [step] * (run <= some)
    staged = under(plain, *COMMON, f"frames={{still: {STILL}, still_frames: {some}}}")
    (entered,) = [one.pixels for one in staged.prepare(Request("?", videos=[steps])).slots.values()]
    assert entered.shown == wanted
    assert len(wanted) == 3 * some


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl", "internvl"])
@pytest.mark.parametrize("every", [None, 2])
@pytest.mark.parametrize("keep", [0.4, 0.1])
def test_no_more_than_a_share_enters(family, every, keep, open_session):
    """What is let in first, then what its neighbours tell least, over the whole clip."""
    session = open_session(family, "preset=off")
    request = Request("?", videos=[storm(10, 112, 84)])
    staged = under(session, *COMMON, f"pixels={{tau: 1, every: {every or 'null'}, keep: {keep}}}")
    (whole,), (bound,) = (
        [one.pixels for one in opened.prepare(request).slots.values()] for opened in (session, staged)
    )
    view, most = whole.form.views()[0], round(keep * whole.segments * whole.tokens)

    def first(token):
        return every is not None and not any(part % every for part in divmod(token, view.columns))

    while every and whole.segments * sum(map(first, range(whole.tokens))) > most:
        every = 2 * every if every < max(view.rows, view.columns) else None
    ranks, before = {}, None
    for step in range(whole.segments):
        shown = Cells.of(whole.pictures(step), view.rows, view.columns)
        told = surprise(shown, before)
        before = shown
        for token, amount in enumerate(told.ravel()):
            ranks[step, token] = (not first(token), -amount)
    wanted = sorted(ranks, key=ranks.get)[:most]
    assert sorted(map(tuple, bound.entered.nonzero().tolist())) == sorted(wanted)


@pytest.mark.parametrize("family", ["llava_onevision", "llava_next", "qwen2_vl", "internvl", "gemma4"])
@pytest.mark.parametrize("keep", [0.4, 0.1, 0.001])
def test_no_more_than_a_share_of_a_picture_enters(family, keep, open_session):
    """Padding aside, and of each tile one token at least."""
    session = under(open_session(family, "preset=off"), *COMMON, f"pixels={{tau: 8, every: 2, keep: {keep}}}")
    white = Image.new("RGB", (300, 225), "white")
    white.paste(noise(100, 100), (20, 100))
    request = Request("?", images=[white])
    (pixels,) = [one.pixels for one in session.prepare(request).slots.values()]
    padding = pixels.form.outside()
    inside = pixels.segments * pixels.tokens - (0 if padding is None else int(padding.sum()))
    assert min(pixels.entering) > 0
    assert sum(pixels.entering) <= max(round(keep * inside), pixels.segments)
    assert session.ask("?", images=[white]).usage.visual.llm_in > 0


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl"])
@pytest.mark.parametrize("most", [1, 4, 64])  # frames of a window
def test_frames_that_enter_are_those_unlike_what_came_before(family, most, open_session, monkeypatch):
    """Still ones left out first, then as many runs of the others as half of the clip, in each window."""
    monkeypatch.setattr(schedule, "WINDOW", most)
    plain = under(open_session(family, "preset=off"), *COMMON)
    moving = film(18, 112, 84, 3)[::2]
    clip = np.concatenate([moving, moving[-1:].repeat(3, 0)])
    request = Request("?", videos=[clip])
    (whole,) = [one.pixels for one in plain.prepare(request).slots.values()]
    view = whole.form.views()[0]
    pictures = [whole.pictures(step) for step in range(whole.segments)]
    going = [0]
    for step in range(1, whole.segments):
        if moved(pictures[step], pictures[going[-1]], view.rows, view.columns):
            going.append(step)
    left = max(1, round(whole.segments * 0.5))
    assert left < len(going) < whole.segments
    wanted, start, had = [], 0, 0
    for size in windows(len(going)):
        part = going[start : start + size]
        share = left * (start + size) // len(going) - had
        if share:
            shown = [looks(pictures[step], view.rows, view.columns) for step in part]
            wanted += [part[first] for first in sorted(frames.METHODS["runs"](shown, share))]
        start, had = start + size, had + share
    staged = under(plain, *COMMON, f"frames={{method: runs, layers: [-1], keep: 0.5, still: {STILL}}}")
    (entered,) = [one.pixels for one in staged.prepare(request).slots.values()]
    assert entered.entered.any(1).nonzero().flatten().tolist() == wanted
    assert len(wanted) == left


def test_windows_are_even_and_hold_no_more_than_they_may():
    for count in (1, 63, 64, 65, 128, 129, 1000):
        sizes = windows(count)
        assert sum(sizes) == count
        assert max(sizes) <= schedule.WINDOW
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl", "gemma4"])
@pytest.mark.parametrize("every", [2, 3])
def test_of_what_is_predicted_each_so_many_th_enters(family, every, open_session):
    """Of each row so many; padding none."""
    session = open_session(family, "preset=off")
    white = Image.new("RGB", (168, 96), "white")
    white.paste(noise(40, 30), (50, 40))
    none, some = (
        under(session, *COMMON, f"pixels={{tau: 0{more}}}").prepare(Request("?", images=[white]))
        for more in ("", f", every: {every}")
    )
    (plain,), (sampled,) = ([one.pixels for one in request.slots.values()] for request in (none, some))
    view, padding = plain.form.views()[0], plain.form.outside()
    for segment in range(plain.segments):
        for token in range(view.rows * view.columns):
            row, column = divmod(token, view.columns)
            inside = padding is None or not padding[segment, token]
            wanted = plain.entered[segment, token] or (inside and row % every == column % every == 0)
            assert sampled.entered[segment, token] == wanted
    assert int(sampled.entered.sum()) > int(plain.entered.sum())
