"""What is written beside the journal: rows, OpenAI's lines, text files; and made again from the records."""

import csv
import json
import os
from dataclasses import replace

import pytest

from illava_cli.batch.item import Item
from illava_cli.batch.writers import FolderWriter, LineWriter, StreamWriter
from illava_cli.cli.output import write_file
from illava_cli.config import Config
from illava_cli.errors import OutputError, UsageError
from tests.batch.conftest import record

CONFIG = Config()


@pytest.fixture
def records(items):
    texts = ["red", 'a "red"\nsquare, é', None, "blue"]
    return [record(item, CONFIG, text) for item, text in zip(items, texts, strict=True)]


def test_csv(tmp_path, records):
    path = tmp_path / "out.csv"
    writer = LineWriter(path, "csv")
    writer.restore(records[:1])
    for one in records[1:]:
        writer.add(one)
    writer.close()
    rows = list(csv.DictReader(path.open(newline="", encoding="utf-8")))
    assert [row["id"] for row in rows] == ["a", "b", "c", "d"]
    assert [row["text"] for row in rows] == ["red", 'a "red"\nsquare, é', "", "blue"]
    assert (rows[2]["status"], rows[2]["error_type"], rows[2]["error_message"]) == (
        "error",
        "MediaError",
        "broken",
    )


@pytest.mark.parametrize("format", ["csv", "openai"])
def test_half_a_character_is_spelled_out(tmp_path, items, format):
    one = record(replace(items[0], id="a\udcff", prompt="\ud800"), CONFIG, "\ud83d")
    path = tmp_path / "out"
    writer = LineWriter(path, format)
    writer.add(one)
    writer.close()
    text = path.read_text(encoding="utf-8")
    if format == "csv":
        assert text.startswith(r"a\udcff,ok,\ud800,\ud83d,")
    else:
        line = json.loads(text)
        assert line["custom_id"] == r"a\udcff"
        assert line["response"]["body"]["choices"][0]["message"]["content"] == r"\ud83d"
    lines = []
    StreamWriter(lines.append).add(one)
    assert json.loads(lines[0])["prompt"] == r"\ud800"


def test_a_run_that_goes_on_makes_the_file_anew(tmp_path, records):
    path = tmp_path / "out.jsonl"
    path.write_text('{"custom_id": "a", "torn')
    writer = LineWriter(path, "openai")
    writer.restore(records[:2])
    writer.add(records[2])
    writer.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["custom_id"] for line in lines] == ["a", "b", "c"]
    assert lines[2]["error"]["code"] == "MediaError"


def test_a_pipe_is_refused_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(OutputError, match="regular file"):
        LineWriter(tmp_path / "pipe.csv", "csv")
    assert (tmp_path / "pipe.csv").is_fifo()


def test_a_text_for_each_answer(tmp_path, records):
    folder = FolderWriter(tmp_path / "out", write_file)
    folder.restore(records[:1])
    for one in records[1:]:
        folder.add(one)
    files = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert files == {"a.txt": "red\n", "b.txt": 'a "red"\nsquare, é\n', "d.txt": "blue\n"}


def test_texts_of_another_run_go_and_those_of_somebody_else_are_left_alone(tmp_path, items, records):
    (tmp_path / "a.txt").write_text("of old")
    folder = FolderWriter(tmp_path, write_file)
    with pytest.raises(UsageError, match=r"a\.txt is there"):
        folder.refuse_others(items)
    folder.refuse_others(items[1:])
    folder.restore([])
    assert (tmp_path / "a.txt").read_text() == "of old"
    FolderWriter(tmp_path, write_file, items).restore([])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("id", "name"),
    [
        ("photos/a.jpg", "photos/a.jpg.txt"),
        ("/abs/./a.jpg", "abs/a.jpg.txt"),
        ("../../etc/x", "__/__/etc/x.txt"),
        ("..", "__.txt"),
        ("/", "_.txt"),
        ("new\nline", "new\nline.txt"),
        ("nul\0", "nul_.txt"),
        ("half \ud800", "half \\ud800.txt"),
    ],
)
def test_an_answer_never_leaves_the_folder(tmp_path, id, name):
    assert FolderWriter(tmp_path, write_file).path(id) == tmp_path / name


def test_long_names_are_shortened_and_stay_apart(tmp_path):
    folder = FolderWriter(tmp_path, write_file)
    one, other = folder.path("é" * 300 + "a"), folder.path("é" * 300 + "b")
    assert one != other
    assert max(len(path.name.encode()) for path in (one, other)) < 255
    one.write_text("fits")


def test_two_items_of_one_file_are_refused(tmp_path):
    items = [Item("a/b", "?"), Item("a//b", "?")]
    with pytest.raises(UsageError, match="'a/b' and 'a//b' would have the same file"):
        FolderWriter(tmp_path, write_file).check(items)


def test_a_folder_in_the_way(tmp_path, records):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="cannot write"):
        FolderWriter(tmp_path / "out", write_file).add(records[0])


def test_a_stream_gets_lines(records):
    lines = []
    writer = StreamWriter(lines.append)
    writer.restore(records)
    writer.add(records[1])
    assert [json.loads(line)["id"] for line in lines] == ["b"]
    assert lines[0].endswith("\n")
