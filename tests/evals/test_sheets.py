"""Documents: nothing overlaps or is cut off, most of the paper is blank, and answers are what is printed."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest

from illava_cli.errors import UsageError
from illava_cli.evals.world import GROUPS, TASKS, generate, sheet, stream
from illava_cli.evals.world.scene import EDGE, WORDS
from illava_cli.evals.world.several import ORDINALS
from illava_cli.evals.world.sheet import Box, Sheet, Text, font, print_sheet

DOCUMENTS = GROUPS["documents"]


def asked(task: str, seeds: int = 40):
    """Sheets with their pixels, questions and answers."""
    for seed in range(seeds):
        rng = stream(task, seed, "train")
        stage = TASKS[task].draw(rng)
        prompt, answer = TASKS[task].ask(stage, rng)
        yield stage.scene, np.asarray(print_sheet(stage.scene), dtype=int), prompt, answer


def plain(pixels: np.ndarray, cell: int) -> float:
    """The share of patches that have one colour only."""
    count = len(pixels) // cell
    patches = pixels[: count * cell, : count * cell].reshape(count, cell, count, cell, 3)
    return (patches.max((1, 3)) == patches.min((1, 3))).all(-1).mean()


def the_text(page: Sheet, words: str) -> Text:
    """The one text that says so."""
    (found,) = [text for text in page.texts if text.words == words]
    return found


def around(page: Sheet, text: Text) -> Box:
    """The box on which a text stands."""
    left, top, right, bottom = text.box
    across = [box for box in page.boxes if box.left < left and right < box.right]
    (found,) = [box for box in across if box.top < top and bottom < box.bottom]
    return found


@pytest.mark.parametrize("task", DOCUMENTS)
def test_no_text_is_cut_off_or_in_the_way_of_another(task):
    for page, pixels, _, _ in asked(task):
        left, top, right, bottom = np.array([text.box for text in page.texts]).T
        assert min(left.min(), top.min()) >= 2
        assert max(right.max() - page.width, bottom.max() - page.height) <= -2
        for i, j in combinations(range(len(page.texts)), 2):
            across = max(left[i], left[j]) - min(right[i], right[j])
            assert max(across, max(top[i], top[j]) - min(bottom[i], bottom[j])) >= 2
        blank = np.ones(pixels.shape[:2], dtype=bool)
        for box in page.boxes:
            assert 0 <= box.left < box.right <= page.width
            assert 0 <= box.top < box.bottom <= page.height
            outside = (right <= box.left) | (left >= box.right) | (bottom <= box.top) | (top >= box.bottom)
            inside = (left > box.left) & (right < box.right) & (top > box.top) & (bottom < box.bottom)
            assert (outside | inside).all()
            blank[box.top : box.bottom, box.left : box.right] = False
        for text in page.texts:
            own = text.box
            blank[own[1] : own[3], own[0] : own[2]] = False
        assert (pixels[blank] == page.paper).all()


@pytest.mark.parametrize("task", DOCUMENTS)
def test_text_stands_out_and_needs_the_tiles(task):
    """Letters of five pixels and more, of half as many in the picture shrunk to one tile."""
    for page, pixels, _, _ in asked(task, 20):
        assert (page.width, page.height) == (2 * EDGE, 2 * EDGE)
        for text in page.texts[1:]:  # the first is the heading
            left, top, right, bottom = text.box
            assert 5 <= bottom - top <= 8
            within = pixels[top:bottom, left:right].reshape(-1, 3)
            assert np.ptp(within.sum(-1)) > 150


@pytest.mark.parametrize("task", DOCUMENTS)
def test_most_patches_are_blank(task):
    pages = [pixels for _, pixels, _, _ in asked(task)]
    assert min(plain(pixels, 8) for pixels in pages) >= 0.5
    assert np.mean([plain(pixels, 14) for pixels in pages]) >= 0.5


def test_words_look_different_at_every_size():
    for size in (8, 9):
        masks = [bytes(font(size).getmask(word)) for word in (*WORDS, *map(str, range(10, 100)))]
        assert len(set(masks)) == len(masks)


def test_a_line_is_found_by_its_number():
    for page, _, prompt, answer in asked("document-line"):
        ordinal, number = re.fullmatch(r"What is the (\w+) word of line (\d)\?", prompt).groups()
        baseline = the_text(page, number).baseline
        (line,) = [text for text in page.texts if text.baseline == baseline and text.words != number]
        assert line.words.split()[ORDINALS.index(ordinal)] == answer


def test_a_cell_is_found_by_its_row_and_column():
    for page, _, prompt, answer in asked("document-cell"):
        row, column = re.fullmatch(r"What is in row (\w+), column (\w+)\?", prompt).groups()
        cell = the_text(page, answer)
        assert cell.baseline == the_text(page, row).baseline
        assert cell.x == the_text(page, column).x


def height(page: Sheet, pixels: np.ndarray, label: str) -> float:
    """What the bar over a label reaches on the axis, by the pixels."""
    ticks = {text.words: text.baseline - 3 for text in page.texts if text.anchor == "r"}
    unit = (ticks["0"] - ticks["100"]) / 100
    upwards = pixels[: ticks["0"], the_text(page, label).x][::-1]
    return (upwards == page.paper).all(-1).argmax() / unit


def test_bars_are_as_high_as_their_values():
    for page, pixels, prompt, answer in asked("document-bar"):
        assert height(page, pixels, prompt.rstrip("?").split()[-1]) == pytest.approx(int(answer))
    for page, pixels, _, answer in asked("document-tallest"):
        labels = [text.words for text in page.texts if text.anchor == "m"]
        heights = {label: height(page, pixels, label) for label in labels}
        assert sorted(heights, key=heights.get)[-1] == answer
        assert len(set(heights.values())) == len(labels) >= 3


def test_a_field_is_beside_its_label():
    for page, _, prompt, answer in asked("document-field"):
        label, value = the_text(page, prompt.rstrip("?").split()[-1]), the_text(page, answer)
        assert label.baseline == value.baseline
        assert label.box[2] < around(page, value).left


def test_a_button_is_where_the_question_says():
    for page, _, prompt, answer in asked("document-button"):
        way, name = re.fullmatch(r"Which button is (\w+)(?: of)? (\w+)\?", prompt).groups()
        here, there = (around(page, the_text(page, words)) for words in (name, answer))
        same = (here.left == there.left, here.top == there.top)
        assert same == ((True, False) if way in ("above", "below") else (False, True))
        before = there.top < here.top or there.left < here.left
        assert before == (way in ("above", "left"))
        apart = abs(there.left - here.left) + abs(there.top - here.top)
        assert apart < 60  # the next one, none between


def test_a_pillow_that_writes_no_text_is_told_of(monkeypatch):
    font.cache_clear()
    monkeypatch.setattr(sheet.features, "check", lambda name: False)
    with pytest.raises(UsageError, match="documents need a Pillow with FreeType"):
        generate("document-line", 0)
    assert generate("reading", 0).images
