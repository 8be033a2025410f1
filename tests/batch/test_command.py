"""`illava batch` on the embedded model: what lands where, what a rerun does, and every way it ends."""

import io
import json
import os
import resource
import signal
import sys

import pytest

from illava_cli import load
from tests.batch.conftest import photos
from tests.batch.program import Program
from tests.conftest import picture

QUICK = ["-m", "tiny", "--max-tiles", "1", "--max-tokens", "3", "--readers", "0"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three pictures and a broken one in `photos`, which is in the working directory."""
    photos(tmp_path, 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def batch(monkeypatch, capfd, folder):
    """Runs the command in this process: (exit code, stdout, stderr)."""

    def run(*arguments, stdin=b""):
        from illava_cli.cli.app import main

        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        code = main(["batch", *QUICK, *arguments])
        return code, *capfd.readouterr()

    return run


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder(batch, folder):
    code, out, err = batch("photos", "-p", "What?", "-o", "out.jsonl")
    assert (code, out) == (3, "")
    found = {line["id"]: line for line in lines(folder / "out.jsonl")}
    assert sorted(found) == ["photos/0.png", "photos/1.png", "photos/2.png", "photos/broken.png"]
    assert [found[name]["status"] for name in sorted(found)] == ["ok", "ok", "ok", "error"]
    assert found["photos/0.png"]["media"][0]["width"] == 60
    assert "photos/broken.png: looks like a text file" in err
    assert "1 item failed; --retry-failed asks again" in err
    assert "the model waited" in err
    assert "\x1b" not in err

    code, out, err = batch("photos", "-p", "What?", "-o", "out.jsonl")
    assert (code, out) == (3, "")
    assert "nothing to ask: 4 of 4 items have a record" in err
    assert "1 item failed (1 in an earlier run)" in err

    picture(60, 50).save(folder / "photos" / "broken.png")
    code, _, err = batch("photos", "-p", "What?", "-o", "out.jsonl", "--retry-failed")
    assert code == 0
    assert "3 of 4 items have a record and are not asked again" in err
    ids = [line["id"] for line in lines(folder / "out.jsonl")]
    assert sorted(ids) == sorted(found)


def test_another_configuration_or_prompt_is_refused(batch, folder):
    batch("photos/0.png", "-p", "What?", "-o", "out.jsonl")
    before = (folder / "out.jsonl").read_bytes()
    for arguments, message in (
        (["--preset", "off"], 'preset "auto" there, "off" here'),
        (["-p", "Why?"], None),
        (["--max-tokens", "4"], None),
    ):
        prompts = [] if "-p" in arguments else ["-p", "What?"]
        if "--max-tokens" in arguments:
            arguments, message = ["--set", "generation.top_p=0.5"], "generation.top_p 1.0 there, 0.5 here"
        code, out, err = batch("photos/0.png", *prompts, "-o", "out.jsonl", *arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert (message or "another question with the id 'photos/0.png'") in err
    assert (folder / "out.jsonl").read_bytes() == before
    assert batch("photos/0.png", "-p", "Why?", "-o", "out.jsonl", "--overwrite")[0] == 0
    assert [line["prompt"] for line in lines(folder / "out.jsonl")] == ["Why?"]


def test_stdout_and_stdin(batch, folder):
    paths = b"photos/0.png\0photos/gone.png\0"
    code, out, err = batch("-", "-0", "-p", "What?", "-q", stdin=paths)
    assert code == 3
    records = [json.loads(line) for line in out.splitlines()]
    assert {record["id"]: record["status"] for record in records} == {
        "photos/0.png": "ok",
        "photos/gone.png": "error",
    }
    assert err.splitlines() == [
        "illava: photos/gone.png: no such file; check the path",
        "illava: 1 item failed",
    ]


def test_csv_goes_on_too(batch, folder):
    batch("photos/0.png", "photos/1.png", "-p", "What?", "-o", "out.csv")
    whole = (folder / "out.csv").read_text()
    assert whole.startswith("id,status,prompt,text,")
    assert len(whole.splitlines()) == 3
    (folder / "out.csv").write_text(whole[:-9])
    batch("photos/0.png", "photos/1.png", "-p", "What?", "-o", "out.csv")
    assert (folder / "out.csv").read_text() == whole
    batch("photos/0.png", "photos/1.png", "photos/2.png", "-p", "What?", "-o", "out.csv")
    assert (folder / "out.csv").read_text().startswith(whole)
    (folder / "mine.csv").write_text("my own\n")
    code, _, err = batch("photos/0.png", "-p", "What?", "-o", "mine.csv")
    assert code == 2
    assert "mine.csv is there, and no records of it" in err
    assert (folder / "mine.csv").read_text() == "my own\n"
    assert not (folder / "mine.csv.records").exists()


def test_openai_in_and_out(batch, folder):
    content = [
        {"type": "image_url", "image_url": {"url": "photos/0.png"}},
        {"type": "text", "text": "What shape?"},
    ]
    line = {"custom_id": "one", "body": {"model": "x", "messages": [{"role": "user", "content": content}]}}
    (folder / "in.jsonl").write_text(json.dumps(line) + "\n")
    assert batch("in.jsonl", "-o", "out.jsonl", "--format", "openai")[0] == 0
    (answer,) = lines(folder / "out.jsonl")
    assert answer["custom_id"] == "one"
    (record,) = lines(folder / "out.jsonl.records")
    assert answer["response"]["body"]["choices"][0]["message"]["content"] == record["text"]


def test_a_text_each(batch, folder):
    assert batch("photos", "-p", "What?", "--out-dir", "answers/here")[0] == 3
    assert sorted(path.name for path in (folder / "answers" / "here" / "photos").iterdir()) == [
        "0.png.txt",
        "1.png.txt",
        "2.png.txt",
    ]
    (folder / "answers" / "here" / "photos" / "1.png.txt").unlink()
    batch("photos", "-p", "What?", "--out-dir", "answers/here")
    assert (folder / "answers" / "here" / "photos" / "1.png.txt").exists()


def test_shards(batch, folder):
    for index in range(5):
        shard = ["--num-shards", "5", "--shard-index", str(index)]
        batch("photos", "-p", "What?", "-o", f"{index}.jsonl", *shard)
    # a shard that got nothing has a file too
    ids = [line["id"] for index in range(5) for line in lines(folder / f"{index}.jsonl")]
    assert len(ids) == len(set(ids)) == 4


def test_on_error_stop(batch, folder):
    code, out, err = batch(
        "photos/broken.png", "photos", "-r", "-p", "What?", "-o", "out.jsonl", "--on-error", "stop"
    )
    assert code == 2  # named twice
    (folder / "first.jsonl").write_text('{"image": "photos/broken.png", "id": "first"}\n')
    arguments = ["first.jsonl", "photos/0.png", "photos/1.png", "-p", "What?", "-o", "out.jsonl"]
    code, out, err = batch(*arguments, "--on-error", "stop", "--batch-size", "1")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("illava: error: stopped at a failure: first: photos/broken.png")
    assert len(lines(folder / "out.jsonl")) < 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["photos", "-o", "out.jsonl"], 2, "give --prompt"),
        (["photos", "-p", " "], 2, "--prompt is empty"),
        (["empty", "-p", "?"], 1, "empty: holds no images or videos"),
        (["gone", "-p", "?"], 1, "gone: no such file"),
        (["-", "-p", "?"], 1, "stdin names no files"),
        (["bad.jsonl", "-p", "?"], 2, "bad.jsonl, line 2: not valid JSON"),
        (["twice.jsonl", "-p", "?"], 2, "duplicate id 'x': twice.jsonl, line 1 and twice.jsonl, line 2"),
        (["photos", "-p", "?", "-o", "gone/out.jsonl"], 1, "the folder gone does not exist"),
        (["photos", "-p", "?", "-o", "photos"], 1, "it is a folder"),
        (["photos", "-p", "?", "-o", "notes.txt"], 2, "holds no answers of illava batch"),
        (["photos", "-p", "?", "--out-dir", "notes.txt"], 1, "cannot make the folder"),
        (["photos", "-p", "?", "-o", "x", "--out-dir", "y"], 2, "leave out -o"),
        (["photos", "-p", "?", "--format", "csv"], 2, "goes to a file"),
        (["photos", "-p", "?", "--format", "xml"], 2, "jsonl or csv or openai"),
        (["photos", "-p", "?", "--overwrite"], 2, "name one with -o"),
        (["photos", "-p", "?", "--on-error", "cry"], 2, "skip or stop"),
        (["photos", "-p", "?", "--batch-size", "0"], 2, "--batch-size"),
        (["photos", "-p", "?", "--timeout", "0"], 2, "--timeout"),
        (["photos", "-p", "?", "--timeout", "nan"], 2, "--timeout"),
        (["photos", "-p", "?", "--timeout", "1e12"], 2, "--timeout"),
        (["photos", "-p", "?", "--shard-index", "1"], 2, "less than --num-shards"),
        (["clash.jsonl", "-p", "?", "--num-frames", "2"], 2, "clash.jsonl, line 1: media"),
        (["photos", "-p", "?", "-m", "tinny"], 2, "tinny"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_one_line(batch, folder, arguments, code, message):
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("mine\n")
    (folder / "bad.jsonl").write_text('{"image": "a"}\n{"image"\n')
    (folder / "twice.jsonl").write_text('{"image": "a", "id": "x"}\n' * 2)
    (folder / "clash.jsonl").write_text('{"video": "a", "start": 5}\n')
    if "clash.jsonl" in arguments:
        arguments = [*arguments, "--end", "3"]
    done = batch(*arguments)
    assert done[:2] == (code, ""), done
    assert done[2].startswith("illava: error: ")
    assert done[2].count("\n") == 1
    assert message in done[2]
    assert (folder / "notes.txt").read_text() == "mine\n"
    assert not (folder / "out.jsonl").exists()


def test_a_full_disk_is_one_line_and_loses_nothing(batch, folder):
    batch("photos/0.png", "-p", "What?", "-o", "out.jsonl")
    before = (folder / "out.jsonl").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        code, _, err = batch("photos", "-p", "What?", "-o", "out.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1
    assert err.splitlines()[-1].startswith("illava: error: cannot write out.jsonl: ")
    assert "free some space and run again" in err
    assert (folder / "out.jsonl").read_bytes() == before
    assert batch("photos", "-p", "What?", "-o", "out.jsonl")[0] == 3


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of 400 pictures, and the program that starts at once in it."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "photos").mkdir()
    for number in range(400):
        picture(40, 40, number).save(folder / "photos" / f"{number:03}.png")
    program = Program(folder)
    yield folder, program
    program.close()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_after_what_is_in_flight(signum, code, many):
    folder, program = many
    path = folder / f"{code}.jsonl"
    arguments = ["batch", "photos", "-p", "What?", "-o", path.name, *QUICK, "--batch-size", "4"]
    pid = program.start(*arguments)
    program.wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= 4)
    os.kill(pid, signum)
    assert program.wait() == code
    written = len(lines(path))
    assert f"stopped after {written} of 400 items; the same command goes on" in program.said()
    assert "Traceback" not in program.said()


def test_a_second_signal_leaves_at_once(many):
    folder, program = many
    image = {"image": "photos/000.png"}
    without_end = {"max_tokens": 20_000, "logit_bias": dict.fromkeys(load("tiny").family.end_ids, -100)}
    asked = [image | {"max_tokens": 1}, image | without_end]
    (folder / "one.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    path = folder / "left.jsonl"
    pid = program.start("batch", "one.jsonl", "-p", "What?", "-o", path.name, *QUICK)
    program.wait_for(lambda: path.exists() and path.read_bytes().endswith(b"\n"))
    os.kill(pid, signal.SIGTERM)
    stopping = "stopping after what is in flight; a second signal leaves at once\n"
    program.wait_for(lambda: stopping in program.said())
    os.kill(pid, signal.SIGINT)
    assert program.wait() == 143
    assert "stopped at once" in program.said()
    assert [line["id"] for line in lines(path)] == ["one:1"]
