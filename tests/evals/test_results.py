"""The file of answers: what is found again, what is mended, what is refused."""

import json

import numpy as np
import pytest

from illava_cli.config import Config
from illava_cli.errors import OutputError, UsageError
from illava_cli.evals.results import Results, asked, without_media
from illava_cli.evals.sample import EvalSample
from illava_cli.evals.variants import Variant
from tests.conftest import clip, picture

OFF = Variant("off", Config(preset="off"))
PAPER = Variant("paper", Config(preset="paper"))
KEY = ("a", "0123", "4567")
ANSWER = {"status": "ok", "text": "é\n"}


def opened(path, variants):
    results = Results(path)
    results.declare(variants)
    return results


def sample(**changes):
    values = {"id": "a", "task": "t", "prompt": "What?", "answer": "x", "images": ("folder/a.png",)}
    return EvalSample(**(values | changes))


def test_answers_are_found_again(tmp_path):
    path = tmp_path / "out.jsonl"
    first = opened(path, [OFF])
    first.add([(KEY, ANSWER), (("b", "1", "2"), {"status": "error"})])
    first.close()
    again = opened(path, [OFF, PAPER])
    assert again.get(KEY) == ANSWER
    assert again.is_answered(KEY)
    assert not again.is_answered(("b", "1", "2"))  # it failed: ask again
    again.add([(("b", "1", "2"), ANSWER)])
    again.close()
    assert opened(path, [PAPER]).is_answered(("b", "1", "2"))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["variant"] for line in lines if "config" in line] == ["off", "paper"]


def test_without_a_file_answers_are_kept_in_memory():
    results = Results(None)
    results.add([(KEY, ANSWER)])
    assert results.is_answered(KEY)


@pytest.mark.parametrize("cut", [1, 10, -1])
def test_a_line_that_was_cut_off_is_mended(cut, tmp_path):
    path = tmp_path / "out.jsonl"
    results = opened(path, [OFF])
    results.add([(KEY, ANSWER)])
    results.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:cut])
    results = opened(path, [OFF])
    assert results.is_answered(KEY)
    results.close()
    assert path.read_bytes() == whole


def test_a_first_line_that_was_cut_off_is_mended(tmp_path):
    path = tmp_path / "out.jsonl"
    opened(path, [OFF]).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:5])
    opened(path, [OFF]).close()
    assert path.read_bytes() == whole


def test_another_configuration_is_refused_by_name(tmp_path):
    path = tmp_path / "out.jsonl"
    half = Variant("half", Config(preset="paper", llm={"keep": 0.5}))
    results = opened(path, [OFF, half])
    results.add([(("a", "1", variant.config.hash()), ANSWER) for variant in (OFF, half)])
    results.close()
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"'half': overrides\.llm\.keep 0\.5 there, 0\.4 here: name"):
        opened(path, [OFF, Variant("half", Config(preset="paper", llm={"keep": 0.4}))])
    with pytest.raises(UsageError, match=r"'off': media\.max_tiles not set there, 1 here"):
        opened(path, [Variant("off", Config(preset="off", media={"max_tiles": 1})), PAPER])
    assert path.read_bytes() == before


def test_a_variant_without_answers_may_change(tmp_path):
    path = tmp_path / "out.jsonl"
    for keep in (0.5, 0.4, 0.4):
        opened(path, [OFF, Variant("half", Config(preset="paper", llm={"keep": keep}))]).close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["variant"] for line in lines] == ["off", "half", "half"]


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"id": 3}\n', b"\x00\x01"])
def test_a_file_of_somebody_elses_is_left_alone(content, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="holds no answers of illava eval"):
        opened(path, [OFF])
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"{", b"3", b'{"key": 3}', b'{"key": ["a"], "text": ""}'])
def test_a_damaged_line_is_named(line, tmp_path):
    path = tmp_path / "out.jsonl"
    opened(path, [OFF]).close()
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(UsageError, match="line 2: damaged"):
        opened(path, [OFF])


def test_answers_need_a_regular_file(tmp_path):
    with pytest.raises(OutputError, match="regular file"):
        Results(tmp_path)


def test_what_was_asked_decides():
    same = asked(sample())
    assert asked(sample(id="b", task="u")) == same
    assert asked(sample(images=("elsewhere/a.png",))) == same  # a folder may move
    changes = [
        {"prompt": "Why?"},
        {"answer": "y"},
        {"answer": None},
        {"choices": ("x", "y")},
        {"images": ("b.png",)},
        {"images": (), "videos": ("a.png",)},
        {"images": (picture(8, 8, 1),)},
        {"images": (picture(8, 8, 2),)},
        {"images": (), "videos": (clip(2, 8, 8, 1),)},
        {"images": (), "videos": (clip(2, 8, 8, 2),)},
    ]
    assert len({same, *(asked(sample(**change)) for change in changes)}) == 1 + len(changes)


def test_pictures_count_by_content():
    frames = clip(2, 8, 8)
    as_array, as_tuple = sample(videos=(frames,)), sample(videos=(tuple(frames),))
    assert asked(as_array) == asked(as_tuple) == asked(sample(videos=(np.array(frames),)))


def test_without_media():
    blind = without_media(sample(prompt="This <image>\nor <image>?"))
    assert (blind.prompt, blind.images, blind.videos) == ("This \nor ?", (), ())
