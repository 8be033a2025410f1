"""`illava batch --server`: the same run, answered by a server elsewhere."""

import io
import json
import os
import signal
import sys
import threading

import pytest

from tests.batch.conftest import photos
from tests.client.fake import completion, drop, error, fake, reply, said, wait_for
from tests.processes import ROOT, Process, run

SENT = "[image_url]What?"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    photos(tmp_path, 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def batch(monkeypatch, capfd, folder, server):
    """Runs the command in this process: (exit code, stdout, stderr)."""

    def run(*arguments, url=None):
        from illava_cli.cli.app import main

        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
        capfd.readouterr()
        code = main(["batch", "--server", url or server.url, *arguments])
        return code, *capfd.readouterr()

    return run


def lines(path):
    return {line["id"]: line for line in map(json.loads, path.read_text().splitlines())}


def test_a_folder(batch, folder, server):
    (folder / "photos" / "broken.png").unlink()
    server.steps.extend([error(429, "busy", Retry_After="0"), drop, reply(200, b"{")])
    code, out, err = batch(
        "photos", "-p", "What?", "-o", "out.jsonl", "--preset", "paper", "--num-frames", "4"
    )
    assert (code, out) == (0, ""), err
    found = lines(folder / "out.jsonl")
    assert sorted(found) == ["photos/0.png", "photos/1.png", "photos/2.png"]
    one = found["photos/0.png"]
    assert (one["text"], one["status"], one["model"], one["preset"]) == (SENT, "ok", "fake", "paper")
    assert one["usage"]["prompt_tokens"] == 9
    first = next(iter(map(json.loads, (folder / "out.jsonl").read_text().splitlines())))
    assert first["run"]["server"] == f"{server.url}/v1"
    assert "3 tries were made again" in err
    assert all(body["preset"] == "paper" and body["num_frames"] == 4 for body in server.asked)

    code, _, err = batch("photos", "-p", "What?", "-o", "out.jsonl", "--preset", "paper", "--num-frames", "4")
    assert code == 0
    assert "nothing to ask: 3 of 3 items have a record" in err
    for arguments, words in ((["--preset", "off"], "preset"), (["--server-model", "other"], "model")):
        code, _, err = batch("photos", "-p", "What?", "-o", "out.jsonl", "--num-frames", "4", *arguments)
        assert code == 2
        assert f"another configuration: {words} " in err


def test_failures_are_records(batch, folder, server):
    def refusing(handler, body):
        step = error(400, "too large") if "two" in said(body) else reply(200, completion("red"))
        step(handler, body)

    server.default = refusing
    manifest = [{"id": n, "image": f"photos/{n}.png", "prompt": n} for n in ("0", "1")]
    manifest += [
        {"id": "two", "image": "photos/2.png", "prompt": "two"},
        {"id": "gone", "image": "gone.png", "prompt": "x"},
        {"id": "far", "image": "http://h.invalid/a.png", "prompt": "x", "max_tokens": 3},
    ]
    (folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in manifest))
    assert batch("m.jsonl", "-o", "out.csv")[0] == 3
    found = lines(folder / "out.csv.records")
    assert {id: record["status"] for id, record in found.items()} == {
        **dict.fromkeys(("0", "1", "far"), "ok"),
        **dict.fromkeys(("two", "gone"), "error"),
    }
    assert found["two"]["error"] == {
        "type": "ServerError",
        "message": f"{server.url}/v1: answered 400: too large",
    }
    assert found["gone"]["error"]["type"] == "MediaError"
    assert found["two"]["preset"] == ""
    (far,) = [body for body in server.asked if body["max_tokens"] == 3]
    assert far["messages"][0]["content"][0]["image_url"]["url"] == "http://h.invalid/a.png"
    server.default = reply()
    assert batch("m.jsonl", "-o", "out.csv", "--retry-failed")[0] == 3
    assert len(lines(folder / "out.csv.records")) == 5


@pytest.mark.parametrize(
    ("step", "arguments", "code", "words"),
    [
        (error(401, "bad key"), [], 1, "bad key; give --server-key, or ILLAVA_SERVER_KEY"),
        (error(400, "Unrecognized request argument: preset"), ["--preset", "auto"], 2, "leave out preset"),
    ],
)
def test_what_no_question_would_survive_ends_the_run(batch, folder, server, step, arguments, code, words):
    """Nothing is written that would have to be asked again with --retry-failed."""
    server.default = step
    (folder / "lines.jsonl").write_text('{"image": "photos/0.png", "max_tokens": 3}\n')
    flags = ["-p", "What?", "-o", "out.jsonl", "--concurrency", "1", *arguments]
    done, out, err = batch("lines.jsonl", "photos", *flags)
    assert (done, out) == (code, "")
    assert len(server.asked) == 1
    assert words in err.splitlines()[-1]
    assert not (folder / "out.jsonl").exists()


def test_a_server_that_goes_away_ends_the_run_which_goes_on(batch, folder):
    (folder / "photos" / "broken.png").unlink()
    with fake() as first:
        first.steps.append(reply())

        def going(handler, body):
            first.socket.close()
            first.shutdown()
            drop(handler, body)

        first.default = going
        arguments = ["photos", "-p", "What?", "-o", "out.jsonl", "--concurrency", "1", "--server-model", "m"]
        code, _, err = batch(*arguments, url=first.url)
        port = first.server_address[1]
    assert code == 1
    assert "cannot be reached" in err.splitlines()[-1]
    assert len(lines(folder / "out.jsonl")) == 1
    with fake(port) as second:
        assert batch(*arguments, url=second.url)[0] == 0
        assert len(second.asked) == 2
    assert len(lines(folder / "out.jsonl")) == 3


def test_several_are_asked_at_once(batch, folder, server):
    everyone = threading.Barrier(4)

    def together(handler, body):
        everyone.wait(60)
        reply()(handler, body)

    server.default = together
    code, _, err = batch(
        "photos", "-p", "What?", "-p", "Why?", "-p", "Who?", "-p", "How?", "--concurrency", "4"
    )
    assert code == 0, err  # a broken picture is bytes as any other here
    assert server.most == 4


def test_an_answer_that_takes_too_long_is_a_record(batch, folder, server):
    over = threading.Event()
    server.steps.append(wait_for(over))
    code, out, _ = batch(
        "photos/0.png", "photos/1.png", "-p", "What?", "--timeout", "0.5", "--concurrency", "1"
    )
    over.set()
    assert code == 3
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["status"] for record in records] == ["error", "ok"]
    assert records[0]["error"]["type"] == "Timeout"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--server", "localhost"], "write its address with http://"),
        (["-m", "tiny"], "name it with --server-model, not -m"),
        (["--device", "cpu"], "leave out device"),
        (["--start", "3"], "media.start cannot be sent"),
        (["--workers", "ray"], "leave out --workers"),
        (["--batch-size", "3"], "leave out --workers, --batch-size"),
        (["--concurrency", "0"], "concurrency"),
        (["line.jsonl"], "line.jsonl, line 1: media.end cannot be sent"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_told_before_anything_is_asked(batch, folder, server, arguments, words):
    (folder / "line.jsonl").write_text('{"video": "a.mp4", "end": 5}\n')
    code, out, err = batch("photos", "-p", "?", *arguments)
    assert (code, out, server.asked) == (2, "", [])
    assert err.count("\n") == 1
    assert words in err


def test_which_model_is_asked(batch, folder, server):
    server.models = ["a", "b"]
    code, _, err = batch("photos/0.png", "-p", "?")
    assert code == 2
    assert f"{server.url}/v1 has 2: a, b: name a model with --server-model" in err
    code, out, _ = batch("photos/0.png", "-p", "?", "--server-model", "b")
    assert (code, json.loads(out)["model"], server.asked[0]["model"]) == (0, "b", "b")


PROGRAM = [sys.executable, "-m", "illava_cli.cli.app", "batch", "photos", "-p", "What?", "-o", "out.jsonl"]


def test_a_run_that_is_killed_goes_on(folder, server, tmp_path):
    """Its key is in no file; what was answered is not asked again."""
    (folder / "photos" / "broken.png").unlink()
    halt = threading.Event()
    server.steps.extend([reply(), wait_for(halt)])
    environment = os.environ | {"ILLAVA_SERVER_KEY": "secret-key", "PYTHONPATH": str(ROOT)}
    command = [*PROGRAM, "--server", server.url.replace("//", "//me:secret-pw@"), "--concurrency", "1"]
    with Process(command, env=environment) as process:
        while len(server.asked) < 2:
            assert process.poll() is None
            halt.wait(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    halt.set()
    assert len(lines(folder / "out.jsonl")) == 1
    done = run(command, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(lines(folder / "out.jsonl")) == 3
    assert len(server.asked) == 4
    assert {headers["Authorization"] for _, headers, _ in server.seen} == {"Bearer secret-key"}
    assert "secret" not in (folder / "out.jsonl").read_text() + done.stderr + done.stdout


def test_a_signal_waits_for_what_is_in_flight(folder, server):
    halt = threading.Event()
    server.default = wait_for(halt)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with Process([*PROGRAM, "--server", server.url, "--concurrency", "2"], env=environment) as process:
        while len(server.asked) < 2:
            assert process.poll() is None
            halt.wait(0.01)
        process.send_signal(signal.SIGTERM)
        halt.set()
        process.wait()
        assert process.returncode == 143
    assert 1 <= len(lines(folder / "out.jsonl")) <= len(server.asked) <= 3


def test_no_torch_is_loaded(folder, server):
    code = (
        "import sys; from illava_cli.cli.app import main; "
        f"code = main(['batch', 'photos/0.png', '-p', '?', '--server', {server.url!r}, '-q']); "
        "sys.exit(code or ('torch' in sys.modules) * 9)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert run([sys.executable, "-c", code], env=environment).returncode == 0
