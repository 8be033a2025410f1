"""Questions from files and from the world; what is wrong with a file, by line."""

import json
import logging

import pytest

from illava_cli.errors import UsageError
from illava_cli.evals.taskfile import questions, read_file


@pytest.fixture
def write(tmp_path):
    def write(*lines, name="mine.jsonl"):
        path = tmp_path / name
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("\n".join(texts), encoding="utf-8")
        return path

    return write


def samples(*sources, count=6):
    return [question() for question in questions([str(s) for s in sources], count)]


def test_a_file(write):
    path = write(
        {"image": "a.jpg", "prompt": "What?", "answer": "cat"},
        "",
        {
            "id": 7,
            "task": "clips",
            "videos": ["b.mp4", "http://x/c.mp4", "data:video/mp4;base64,AA=="],
            "prompt": "How many?",
            "answer": 2,
        },
        {"images": ["a.jpg", "/b.jpg"], "prompt": "Which?", "answer": "B", "choices": ["left", "right"]},
        {"image": "a.jpg", "prompt": "Describe."},
    )
    first, second, third, fourth = samples(path)
    folder = str(path.parent)
    assert (first.id, first.task, first.answer, first.choices) == ("mine:1", "mine", "cat", None)
    assert (first.images, first.videos) == ((f"{folder}/a.jpg",), ())
    assert (second.id, second.task, second.answer) == ("7", "clips", "2")
    assert second.videos == (f"{folder}/b.mp4", "http://x/c.mp4", "data:video/mp4;base64,AA==")
    assert (third.answer, third.choices) == ("right", ("left", "right"))
    assert third.images == (f"{folder}/a.jpg", "/b.jpg")
    assert fourth.answer is None


GOOD = {"image": "a.jpg", "prompt": "What?", "answer": "cat"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "expected an object"),
        (GOOD | {"anwser": "x"}, "unknown field 'anwser'; did you mean 'answer'?"),
        ({"image": "a.jpg"}, "the prompt is missing"),
        (GOOD | {"prompt": " "}, "the prompt is missing"),
        (GOOD | {"prompt": ["x"]}, "prompt must be a text"),
        ({"prompt": "?"}, "names no image and no video"),
        (GOOD | {"images": ["b.jpg"]}, "give image or images, not both"),
        (GOOD | {"image": 3}, "image must be a path or URL"),
        (GOOD | {"image": [""]}, "image must be a path or URL"),
        (GOOD | {"answer": True}, "answer must be a text, not true"),
        (GOOD | {"choices": ["cat"]}, "two or more"),
        (GOOD | {"choices": "cat"}, "two or more"),
        (GOOD | {"choices": ["cat", "cat"]}, "choices must differ"),
        (GOOD | {"choices": ["cat", ""]}, "none may be empty"),
        (GOOD | {"choices": ["dog", "cow"]}, "'cat' is none of the choices"),
        ({"image": "a.jpg", "prompt": "?", "choices": ["dog", "cow"]}, "choices need the answer"),
        (GOOD | {"id": "mine:1"}, "the id 'mine:1' is taken by"),
    ],
)
def test_a_broken_line_is_named(line, said, write):
    path = write(GOOD, line)
    with pytest.raises(UsageError, match=r"mine\.jsonl, line 2: ") as error:
        samples(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"prompt": "\xff"}\n')
    with pytest.raises(UsageError, match="line 1: not UTF-8"):
        samples(path)


def test_windows_lines_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n" + json.dumps(GOOD).encode() + b"\r\n"
    )
    assert [sample.id for _, sample in read_file(path)] == ["x:1", "x:2"]


def test_an_empty_file(write):
    with pytest.raises(UsageError, match="holds no questions"):
        samples(write("", " "))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere.jsonl", "cannot read the task file nowhere.jsonl: No such file"),
        ("wrld", "did you mean 'world'?"),
        ("world:color", "unknown task 'color'; did you mean 'colour'?"),
        ("documnts", "did you mean 'documents'?"),
        ("world:document-bars", "did you mean 'document-bar'?"),
        ("documents:colour", "unknown task 'colour' (there are: document-line, document-cell"),
    ],
)
def test_sources_that_are_not_there(source, said):
    with pytest.raises(UsageError) as error:
        samples(source)
    assert said in str(error.value)


def test_the_world_is_dealt_out_over_its_tasks():
    from illava_cli.evals.world import questions as world

    found = samples("world:colour,shape", count=5)
    assert [s.task for s in found] == ["colour", "shape", "colour", "shape", "colour"]
    assert [s.id for s in found] == [s.id for s in world(["colour", "shape"], 5)]
    assert all(s.id.split("/")[1] == "heldout" for s in found)


def test_documents_are_a_group_of_their_own():
    """The tasks of `world` stay those of earlier tables."""
    documents = [s.task for s in samples("documents", count=6)]
    assert all(task.startswith("document-") for task in documents)
    assert len(set(documents)) == 6
    scenes = [s.task for s in samples("world", count=13)]
    assert len(set(scenes)) == 13
    assert not set(scenes) & set(documents)
    mixed = [s.task for s in samples("world:document-bar", "documents:document-cell,document-bar", count=4)]
    assert mixed == ["document-bar", "document-cell"] * 2


def test_sources_add_up(write):
    found = samples(write(GOOD), "world:colour", "world:colour,shape", count=4)
    assert [s.task for s in found] == ["mine", "colour", "shape", "colour", "shape"]


@pytest.mark.parametrize("form", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_as_other_programs_write_it(tmp_path, form, end):
    path = tmp_path / "mine.jsonl"
    lines = [json.dumps(GOOD), "", json.dumps(GOOD | {"prompt": "\u2028é?"}, ensure_ascii=False)]
    path.write_bytes(end.join(lines).encode(form))
    assert [(s.id, s.prompt) for s in samples(path)] == [("mine:1", "What?"), ("mine:3", "\u2028é?")]
    path.write_bytes(end.join([*lines, "{"]).encode(form))
    with pytest.raises(UsageError, match=r"mine\.jsonl, line 4: not valid JSON"):
        samples(path)


def test_a_line_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"image": "caf\xe9.jpg"}\n')
    with pytest.raises(UsageError, match=r"mine\.jsonl, line 2: not UTF-8 text"):
        samples(path)


def test_half_a_character_in_an_id_is_spelled_out(write):
    (sample,) = samples(write(GOOD | {"id": "a\ud800"}))
    assert sample.id == r"a\ud800"


@pytest.mark.parametrize(("source", "frames", "warned"), [("long", 8, 1), ("long", 16, 0), ("world", 8, 0)])
def test_frames_of_long_clips_that_are_not_shown_are_told(source, frames, warned, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("illava"), "propagate", True)
    questions([source], 3, frames=frames)
    said = set(caplog.messages)
    assert len(said) == warned
    assert all("--num-frames 16" in message for message in said)
