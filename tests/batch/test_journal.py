"""The journal: what is found again, mended, refused, and what a full disk leaves."""

import json
import os
import resource
import sys
from dataclasses import replace

import pytest

from illava_cli.batch.journal import Journal
from illava_cli.config import Config
from illava_cli.errors import OutputError, UsageError
from tests import processes
from tests.batch.conftest import record

CONFIG = Config()
MANIFEST = b'{"id": "a", "image": "a.jpg", "prompt": "?"}\n'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.jsonl"


def opened(path, items, config=CONFIG, retry_failed=False, **options):
    journal = Journal(path, **options)
    try:
        pending = journal.plan(items, config, retry_failed=retry_failed)
    except UsageError:
        journal.close()
        raise
    journal.begin(pending)
    return journal, [item.id for item in pending]


def written(path, items, texts, config=CONFIG):
    journal, _ = opened(path, items, config)
    for item, text in zip(items, texts, strict=False):
        journal.add(record(item, config, text))
    journal.close()


def ids(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_what_is_answered_is_not_asked_again(path, items):
    written(path, items, ["red", None])
    journal, pending = opened(path, items)
    assert pending == ["c", "d"]
    assert journal.failed(items) == 1
    journal.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [("run" in line) for line in lines] == [True, False]
    assert lines[0]["run"] == CONFIG.identity()


def test_half_a_character_is_spelled_out_and_found_again(path, items):
    """`jq` stops at half a character, and all later records would be lost to it."""
    odd = [replace(items[0], id="a\udcff.jpg", prompt="\ud800 b", images=("a\udcff.jpg",)), *items[1:]]
    written(path, odd, ["red \ud83d", None])
    for line in path.read_text(encoding="utf-8").splitlines():
        json.dumps(json.loads(line), ensure_ascii=False).encode()
    assert ids(path) == [r"a\udcff.jpg", "b"]
    assert json.loads(path.read_text().splitlines()[0])["prompt"] == r"\ud800 b"
    journal, pending = opened(path, odd)
    journal.close()
    assert pending == ["c", "d"]


def test_half_a_character_of_an_older_journal_is_found_again(path, items):
    odd = [replace(items[0], id="a\udcff.jpg"), *items[1:]]
    written(path, odd, ["red", "red", None])
    path.write_bytes(path.read_bytes().replace(rb"\\udcff", rb"\udcff"))
    journal, pending = opened(path, odd, retry_failed=True)
    journal.close()
    assert pending == ["c", "d"]
    assert ids(path) == [r"a\udcff.jpg", "b"]


def test_failures_are_asked_again_when_told_so(path, items):
    written(path, items, [None, "red", None])
    journal, pending = opened(path, items, retry_failed=True)
    assert pending == ["a", "c", "d"]
    assert ids(path) == ["b"]  # so that no id is there twice
    journal.add(record(items[0], CONFIG))
    journal.close()
    assert ids(path) == ["b", "a"]
    with pytest.raises(UsageError, match="another configuration"):
        opened(path, items, Config(preset="off"))  # the configuration outlived the first record


def test_a_corrected_question_that_failed_is_asked_again(path, items):
    written(path, items, [None, "red"])
    corrected = [replace(items[0], images=("there.jpg",)), *items[1:]]
    journal, pending = opened(path, corrected)
    journal.close()
    assert pending == ["a", "c", "d"]
    assert ids(path) == ["b"]


def test_overwrite(path, items):
    written(path, items, ["red", "blue"])
    before = path.read_bytes()
    journal = Journal(path, overwrite=True)
    assert len(journal.plan(items, Config(preset="off"))) == 4
    assert path.read_bytes() == before  # until the run begins
    journal.begin(items)
    journal.add(record(items[2], Config(preset="off")))
    journal.close()
    assert ids(path) == ["c"]


@pytest.mark.parametrize("cut", [1, 7, -1])
def test_a_torn_line_is_mended(path, items, cut):
    written(path, items, ["réd", "blue"])
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:cut])
    journal, pending = opened(path, items)
    assert pending == ["c", "d"]
    journal.close()
    assert path.read_bytes() == whole


def test_another_configuration_is_refused_with_the_difference(path, items):
    written(path, items, ["red"])
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r'preset "auto" there, "off" here'):
        opened(path, items, Config(preset="off"))
    # also for items that are not there yet
    with pytest.raises(UsageError, match=r"media\.max_tiles not set there, 1 here"):
        opened(path, items[2:], Config(media={"max_tiles": 1}))
    assert path.read_bytes() == before


def test_another_question_of_the_same_id_is_refused(path, items):
    written(path, items, ["red", "blue"])
    changed = [replace(item, prompt="Why?") for item in items]
    with pytest.raises(UsageError, match=r"another question with the id 'a' \(and 1 more\)"):
        opened(path, changed)
    longer = [replace(items[0], settings={"generation": {"max_tokens": 4}}), *items[1:]]
    with pytest.raises(UsageError, match="another question with the id 'a':"):
        opened(path, longer)


def test_a_second_process_is_refused(path, items):
    journal, _ = opened(path, items)
    code = (
        "import sys, pathlib; from illava_cli.batch.journal import Journal as J; J(pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = processes.run(command)
    assert "OutputError" in done.stderr
    assert "is being written by another process" in done.stderr
    # it holds also when the file was put in place of another
    journal.add(record(items[0], CONFIG, None))
    journal.begin(items)
    with pytest.raises(OutputError, match="another process"):
        Journal(path)
    journal.close()
    Journal(path).close()


def test_a_run_that_failed_leaves_no_empty_file(path, items):
    opened(path, items)[0].close(undo=True)
    assert not path.exists()
    path.touch()
    opened(path, items)[0].close(undo=True)
    assert path.exists()


@pytest.mark.parametrize("content", [b"my notes\n", b'{"text": 3}\n', b"\x00", MANIFEST, MANIFEST[:-1]])
def test_a_file_of_somebody_elses_is_left_alone(path, items, content):
    path.write_bytes(content)
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="holds no answers of illava batch"):
            Journal(path, overwrite=overwrite)
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b'{"id": "x"}\n', b'{"id": 3\n', b'{"id": [], "status": "ok"}\n'])
def test_a_damaged_line_is_named(path, items, line):
    written(path, items, ["red"])
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(UsageError, match="line 2: damaged"):
        Journal(path)


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="regular file"):
        Journal(tmp_path)
    with pytest.raises(OutputError, match="No such file or directory"):
        Journal(tmp_path / "gone" / "out.jsonl")


def test_a_full_disk_leaves_whole_lines(path, items):
    written(path, items, ["red"])
    size = path.stat().st_size
    journal, _ = opened(path, items)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*out\.jsonl: .*free some space"):
            journal.add(record(items[1], CONFIG))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.stat().st_size == size
    journal.add(record(items[2], CONFIG))
    journal.close()
    assert ids(path) == ["a", "c"]


def test_without_a_file_nothing_is_kept(items):
    journal, pending = opened(None, items)
    assert len(pending) == 4
    journal.add(record(items[0], CONFIG, None))
    assert journal.failed(items) == 1
    assert list(journal.records()) == []
    journal.close()


def test_names_that_are_no_text_survive(path, items):
    odd = replace(items[0], id=os.fsdecode(b"\xff.jpg"), images=(os.fsdecode(b"\xff.jpg"),))
    written(path, [odd], ["red"])
    assert opened(path, [odd])[1] == []
