"""The world: the same question for a seed, none in two splits, and answers that the pixels bear out."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from illava_cli.errors import UsageError
from illava_cli.evals.world import BY_HAND, GROUPS, SPLITS, TASKS, generate, questions, stream
from illava_cli.evals.world.glyphs import GLYPHS
from illava_cli.evals.world.motion import draw_times
from illava_cli.evals.world.render import coverage, draw
from illava_cli.evals.world.scene import COLOURS, SHAPES, SIZES, WORDS, draw_scene
from illava_cli.evals.world.styles import HELD_OUT, TRAINED, restyle
from illava_cli.evals.world.task import media


def pixels(sample) -> list[bytes]:
    frames = [*sample.images, *(frame for video in sample.videos for frame in video)]
    return [image.tobytes() for image in frames]


def coloured(image) -> np.ndarray:
    """(H, W) number of the nearest named colour where there is one near, else -1: pixels alone, no scene."""
    values = np.asarray(image, dtype=np.float32)
    distance = np.abs(values[:, :, None] - np.array(list(COLOURS.values()), dtype=np.float32)).max(-1)
    return np.where(distance.min(-1) < 26, distance.argmin(-1), -1)


def blobs(mask: np.ndarray) -> list[np.ndarray]:
    """Connected areas of a mask, each as (pixels, 2) rows and columns; specks are left out."""
    left, found = {tuple(p) for p in np.argwhere(mask)}, []
    while left:
        area, edge = [], [left.pop()]
        while edge:
            row, column = edge.pop()
            area.append((row, column))
            near = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)} & left
            left -= near
            edge += near
        if len(area) >= 12:
            found.append(np.array(area))
    return found


def shapes_seen(image) -> list[tuple[str, np.ndarray]]:
    numbers = coloured(image)
    names = list(COLOURS)
    return [
        (names[n], area.mean(0)) for n in range(len(names)) for area in blobs(numbers == n)
    ]  # with centres (row, column)


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_gives_one_sample(task):
    first, again, other = generate(task, 5), generate(task, 5), generate(task, 6)
    assert (first.prompt, first.answer, pixels(first)) == (again.prompt, again.answer, pixels(again))
    assert pixels(first) != pixels(other)
    assert first.task == task
    assert first.id == f"{task}/heldout/5"
    assert first.choices is None or first.answer in first.choices


@pytest.mark.parametrize("task", TASKS)
def test_no_split_shares_a_picture_with_another(task):
    seen = [{p for seed in range(6) for p in pixels(generate(task, seed, split))[-1:]} for split in SPLITS]
    assert len(set.union(*seen)) == sum(map(len, seen))


def test_the_streams_of_splits_tasks_and_seeds_differ():
    firsts = [
        stream(task, seed, split).integers(2**62) for task in TASKS for seed in range(50) for split in SPLITS
    ]
    assert len(set(firsts)) == len(firsts)


@pytest.mark.parametrize("task", [*GROUPS["world"], *GROUPS["documents"]])  # hands ask the same
def test_no_answer_is_likelier_than_chance(task):
    kind, answers = TASKS[task], Counter()
    for seed in range(400):
        rng = stream(task, seed, "train")
        question = None
        while question is None:
            question = kind.ask(kind.draw(rng), rng)
        answers[question[1]] += 1
    if kind.choices is None:
        assert max(answers.values()) < 30
        return
    assert set(answers) <= set(kind.choices)
    expected = 400 / len(kind.choices)
    assert all(abs(answers[c] - expected) < 4.5 * np.sqrt(expected) for c in kind.choices), answers


def test_an_absent_thing_is_like_one_that_is_there():
    for seed in range(60):
        rng = stream("existence", seed, "train")
        stage = TASKS["existence"].draw(rng)
        prompt, answer = TASKS["existence"].ask(stage, rng)
        colour, shape = prompt.rstrip("?").split()[-2:]
        names = [(t.colour, t.shape) for t in stage.scene.things]
        assert ((colour, shape) in names) == (answer == "yes")
        assert any(colour == c or shape == s for c, s in names)


def test_count_is_what_the_pixels_show():
    right = sum(
        len(shapes_seen(s.images[0])) == int(s.answer) for s in (generate("count", n) for n in range(40))
    )
    assert right >= 38  # a shape of the background's own colour may hide from this simple eye


def test_position_and_what_is_at_are_what_the_pixels_show():
    for task in ("position", "what-is-at"):
        checked = 0
        for seed in range(40):
            sample = generate(task, seed)
            said = sample.answer if task == "what-is-at" else sample.prompt
            where = (sample.prompt if task == "what-is-at" else sample.answer).rstrip("?").split()[-2:]
            colour = next(c for c in COLOURS if c in said)
            found = [centre for name, centre in shapes_seen(sample.images[0]) if name == colour]
            if len(found) == 1:
                row, column = found[0]
                assert where == ["bottom" if row > 48 else "top", "right" if column > 48 else "left"]
                checked += 1
        assert checked >= 20


@pytest.mark.parametrize("group", ["video", "long"])
def test_direction_is_what_the_pixels_show(group):
    for seed in range(20):
        sample = generate(f"{group}-direction", seed)
        first, last = (shapes_seen(sample.videos[0][i]) for i in (0, -1))
        moves = [
            (after - before)
            for name, before in first
            for other, after in last
            if name == other and np.abs(after - before).max() > 20
        ]
        for down, right in moves:
            way = (
                ("right" if right > 0 else "left")
                if abs(right) > abs(down)
                else ("down" if down > 0 else "up")
            )
            assert way == sample.answer


@pytest.mark.parametrize("group", ["video", "long"])
def test_what_came_first_and_how_often_it_blinked_is_what_the_pixels_show(group):
    for seed in range(15):
        frames = generate(f"{group}-first", seed).videos[0]
        seen = [{name for name, _ in shapes_seen(frame)} for frame in frames]
        new = next((names for names in seen if names), set())
        assert len(new) != 1 or new == {generate(f"{group}-first", seed).answer}
    for seed in range(15):
        sample = generate(f"{group}-blinks", seed)
        counts = [len(shapes_seen(frame)) for frame in sample.videos[0]]
        assert sum(b < a for a, b in pairwise(counts)) == int(sample.answer)


def test_uneven_frames_show_every_moment():
    rng, lengths = np.random.default_rng(0), set()
    for _ in range(20):
        times = draw_times(rng, 8, 16)
        assert times[0] == 0
        assert (np.diff(times) >= 0).all()
        moments, counts = np.unique(times.astype(int), return_counts=True)
        assert moments.tolist() == list(range(8))
        lengths |= {*counts.tolist()}
    assert len(lengths) > 3


def test_a_picture_is_the_same_at_any_resolution():
    scene = draw_scene(np.random.default_rng(3), 4, texts=("FROG",))
    small, large = draw(scene), draw(scene, 480)
    assert (small.size, large.size) == ((96, 96), (480, 480))
    shrunk = np.asarray(large.reduce(5), dtype=np.float32)
    assert np.abs(shrunk - np.asarray(small, dtype=np.float32)).mean() < 6


def test_shapes_and_signs_keep_apart():
    for seed in range(30):
        scene = draw_scene(np.random.default_rng(seed), 4, texts=("SHIP",))
        assert coverage(scene, 1).sum(0).max() <= 1.0
        for thing in scene.things:
            assert thing.radius < min(thing.x, thing.y, 96 - thing.x, 96 - thing.y)


def test_tables_agree():
    assert all(character in GLYPHS for character in "".join(WORDS) + "0123456789")
    assert len(SHAPES) == 5
    assert len(COLOURS) == 6
    assert len(SIZES) == 3
    assert len(WORDS) == 20


def test_questions_are_dealt_out_in_turn():
    samples = list(questions(["colour", "shape"], 5))
    assert [s.task for s in samples] == ["colour", "shape", "colour", "shape", "colour"]
    assert [s.id for s in samples][-1] == "colour/heldout/2"


def test_what_is_unknown_is_refused():
    for call in (
        lambda: generate("colours", 0),
        lambda: generate("colour", 0, "test"),
        lambda: generate("colour", -1),
    ):
        with pytest.raises(UsageError):
            call()


def test_another_hand_draws_the_same_scene():
    """Names and places stay; what is drawn in chalk has other colours, on plain boards."""
    for name in ("count", "multi-image", "video-first"):
        rng = stream(name, 3, "train")
        stage = TASKS[name].draw(rng)
        pictures = {}
        for style in ("flat", *TRAINED, HELD_OUT):
            (drawn, *_), *_ = media(restyle(stage, style, stream(name, 4, "train"))).values()
            pictures[style] = np.asarray(drawn[0] if isinstance(drawn, tuple) else drawn, dtype=int)
        assert (pictures["flat"] == pictures[TRAINED[0]]).all()
        for style in ("outlined", "shaded", HELD_OUT):
            assert np.abs(pictures[style] - pictures["flat"]).max() > 30
        assert coloured(pictures[HELD_OUT].astype(np.uint8)).max() < 0  # none of the world's own colours


@pytest.mark.parametrize("hand", BY_HAND)
def test_another_hand_asks_as_the_world_does(hand):
    for name in ("relation", "video-blinks"):
        ours, theirs = BY_HAND[hand][f"{hand}-{name}"], TASKS[name]
        rng = np.random.default_rng(5)
        question = None
        while question is None:
            stage = ours.draw(rng)
            question = ours.ask(stage, rng)
        assert ours.choices == theirs.choices
        assert question[1] in theirs.choices
        pictures = stage.frames if name == "video-blinks" else (stage.scene,)
        assert {one.style for one in pictures} == {hand}
