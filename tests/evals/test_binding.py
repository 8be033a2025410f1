"""What belongs together on a page, as the trainer says it: held against the pages' contents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny.batches import Builder, Example
from tiny.binding import HEADINGS, Binding, inside, lookings, owned, parts, tellings
from tiny.checkpoint import ARCHITECTURES
from tiny.labels import TILE
from tiny.notes import draw_note
from tiny.referents import evidence, side

from illava_cli.evals.world.pages import Lines, Screen, Table
from illava_cli.evals.world.sheet import print_sheet
from tests.evals.staging import losses_while_learning, small_session, staged

TASKS = ["document-line", "document-cell", "document-field", "document-button", "document-bar"]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def builder(request):
    return Builder(small_session(request.param))


def passed(builder, task):
    stage, question = staged(task)
    heads = Binding(builder.model.config.text_config)
    with torch.no_grad():
        out = builder.forward([Example(stage, [question])], watched=heads.watched)
    return stage, heads, out


def test_a_cell_belongs_to_its_row_and_column():
    for seed in range(8):
        stage, _ = staged("document-cell", seed)
        table = stage.scene.content
        told = [(part.row.words, part.column.words) for part in parts(stage.scene)]
        assert told == [(row, column) for row in table.rows for column in table.columns]


def test_a_word_belongs_to_its_line():
    for seed in range(8):
        stage, _ = staged("document-line", seed)
        place = {part.words: (part.row.words, part.rank) for part in parts(stage.scene)}
        for number, words in enumerate(stage.scene.content.lines, 1):
            for rank, word in enumerate(words):
                if sum(word in line for line in stage.scene.content.lines) == 1:
                    assert place[word] == (str(number), rank)


def test_a_button_belongs_to_those_before_it():
    for seed in range(8):
        stage, (prompt, answer) = staged("document-button", seed)
        told = {part.words: part for part in parts(stage.scene) if part.words}
        asked = prompt.split()[-1].rstrip("?")
        first, second = told[asked], told[answer]
        match side(prompt):
            case 0:
                assert first.row.words == answer
            case 1:
                assert second.row.words == asked
            case 2:
                assert first.column.words == answer
            case 3:
                assert second.column.words == asked


def test_a_bar_has_its_value_at_its_top():
    for seed in range(8):
        stage, _ = staged("document-bar", seed)
        named = [part for part in parts(stage.scene) if part.words]
        assert {part.words: 10 * part.value for part in named} == stage.scene.content.bars
        pixels = np.asarray(print_sheet(stage.scene), dtype=int)
        floor = stage.scene.boxes[-1].top
        heights = set()
        for part in named:
            left, top, right, bottom = (round(x) for x in part.top.area)
            middle = (left + right) // 2
            assert part.area[0] <= middle <= part.area[2]  # it stands over its name
            assert (pixels[top + 1, middle] != pixels[bottom, middle]).any()
            heights.add((floor - top - 2) / part.value)
        assert len(heights) == 1


@pytest.mark.parametrize("task", TASKS)
def test_parts_lie_on_tokens(builder, task):
    stage, _, out = passed(builder, task)
    size = stage.scene.width, stage.scene.height
    for part in parts(stage.scene):
        assert inside(out.sight, part.area, size).any()


def read_off(part, prompt, answer):
    """Whether a part and what it belongs to say that this is the answer."""
    asked = prompt.rstrip("?").split()[-1]
    match prompt.split()[3], side(prompt):
        case _, 0:
            return (part.words, part.row.words) == (asked, answer)
        case _, 1:
            return (part.words, part.row.words) == (answer, asked)
        case _, 2:
            return (part.words, part.column.words) == (asked, answer)
        case _, 3:
            return (part.words, part.column.words) == (answer, asked)
        case "row", _:
            return part.row.words in prompt and part.column.words == asked
        case "field", _:
            return part.row.words == asked
        case "value", _:
            return part.words == asked and part.value == int(answer) // 10
    return part.words == answer and part.row.words == asked


@pytest.mark.parametrize("task", TASKS)
def test_the_answer_is_looked_for_where_it_is_bound(task):
    checked = 0
    for seed in range(8):
        stage, question = staged(task, seed)
        place = evidence(stage, *question)
        if place is None:
            continue
        x, y = place[0] * stage.scene.width, place[1] * stage.scene.height
        (part,) = (
            part
            for part in parts(stage.scene)
            if part.area[0] <= x <= part.area[2] and part.area[1] <= y <= part.area[3]
        )
        assert read_off(part, *question)
        checked += 1
    assert checked


@pytest.mark.parametrize("task", TASKS)
def test_tokens_are_told_what_their_parts_belong_to(builder, task):
    stage, _, out = passed(builder, task)
    told = {(one.reader, one.token): one.target for one in tellings(out)}
    looks = {(name, token) for name, _, token, _ in lookings(out)}
    page, size = parts(stage.scene), (stage.scene.width, stage.scene.height)
    for part, tokens in zip(page, owned(out.sight, page, size), strict=True):
        for token in tokens[-1:]:  # the last one comes after all that it belongs to
            for name in ("row", "column"):
                heading = getattr(part, name)
                assert ((name, token) in looks) == (heading is not None)
                if heading is not None:
                    assert HEADINGS[told[name, token]] == heading.words
            if part.rank is not None:
                assert told["rank", token] == part.rank
            if part.value is not None:
                assert 1 + told["name" if part.top else "value", token] == part.value


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_falls_as_heads_look_and_readers_learn(builder, task):
    torch.manual_seed(0)
    _, heads, out = passed(builder, task)
    looks = {head: torch.zeros_like(paid) for head, paid in out.shown.looks.items()}
    for name, row, token, seen in lookings(out):
        looks[heads.looking[name]][row, token, : len(seen)] = seen / seen.sum()
    better = replace(out, shown=replace(out.shown, looks=looks))
    assert heads(better)[0] < heads(out)[0] - 0.5
    first, last = losses_while_learning(heads, better, 60)
    assert last < 0.7 * first


def test_a_small_document_says_what_it_holds_on_one_tile():
    rng, kinds = np.random.default_rng(0), set()
    for _ in range(60):
        note = draw_note(rng)
        kinds.add(type(note.content))
        assert (note.width, note.height) == (TILE, TILE)
        for text in note.texts:
            left, top, right, bottom = text.box
            assert min(left, top) >= 0
            assert max(right, bottom) <= TILE
        pixels = np.asarray(print_sheet(note), dtype=int)
        for part in parts(note):
            left, top, right, bottom = (round(x) for x in part.area)
            assert np.ptp(pixels[top:bottom, left:right], axis=(0, 1)).max() > 60  # ink
            before = [other for other in (part.row, part.column) if other]
            for other in before:
                assert other.area[1] <= part.area[1] or other.area[0] <= part.area[0]
    assert kinds == {Lines, Table, Screen}


def test_a_scene_teaches_nothing_of_pages(builder):
    _, heads, out = passed(builder, "colour")
    assert heads(out)[0] == 0
