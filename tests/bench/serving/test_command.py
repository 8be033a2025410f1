"""`illava bench serve` on a server that answers as told: the report's form, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from illava_cli.bench.serving import measuring
from illava_cli.cli.app import main
from illava_cli.cli.bench_serve import arguments
from illava_cli.cli.options import ModelFlags
from illava_cli.errors import ServerError
from tests.conftest import picture
from tests.serve.fake_server import Canned, as_a_model
from tests.serve.fake_server import usage as counted

QUICK = ["--requests", "4", "--warmup", "1", "--size", "16x16"]
DISTRIBUTION = {"p50", "p95", "p99", "mean", "max"}


@pytest.fixture
def bench(capsys):
    def run(*options):
        code = main(["bench", "serve", *map(str, options)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def on(server, bench):
    """Measures the server; the report."""

    def run(*options, code=0):
        found, out, err = bench("--server", server.url, *QUICK, "--format", "json", *options)
        assert found == code, err
        return json.loads(out)

    return run


def test_report(on, server):
    server.answer = lambda body: Canned(("Yes", ", it", " is."), counted(words=3))
    report = on("--concurrency", 1, "--concurrency", 2, "--rate", 200, "--max-tokens", 3, "--seed", 5)
    assert report["machine"]["command"].startswith("illava")
    settings = report["settings"]
    assert (settings["requests"], settings["warmup"], settings["max_tokens"], settings["seed"]) == (
        4,
        1,
        3,
        5,
    )
    assert settings["media"] == {"synthetic": True, "kind": "image", "width": 16, "height": 16, "repeat": 0.0}
    (listed,) = report["servers"]
    assert (listed["name"], listed["model"], listed["own"]) == ("server", "tiny", False)
    assert [one["load"]["label"] for one in report["results"]] == ["1 client", "2 clients", "200/s"]
    for result in report["results"]:
        assert (result["requests"], result["failed"]) == (4, 0)
        assert all(result["seconds"][name].keys() == DISTRIBUTION for name in ("ttft", "per_token", "whole"))
        assert result["requests_per_s"] == pytest.approx(4 / result["window_s"])
        assert result["tokens"]["completion"] == 12
        assert result["tokens"]["visual_saved"] == 4 * (729 - 224)
        assert result["media"] == {"sent": 4, "reused": 0}
    bodies = server.bodies
    assert len({body["messages"][0]["content"][0]["image_url"]["url"] for body in bodies}) == len(bodies)
    assert all(body["max_tokens"] == 3 and body["temperature"] == 0 for body in bodies)


def test_tables_go_to_stderr_and_files_have_what_was_asked_for(bench, server, tmp_path):
    saved, page, drawn = tmp_path / "a.json", tmp_path / "a.md", tmp_path / "a.svg"
    files = ["--save", saved, "--markdown", page]
    files += ["--plot", drawn] if _draws() else []
    code, out, err = bench("--server", server.url, *QUICK, "--concurrency", 1, "--rate", 90, *files)
    assert (code, out) == (0, "")
    for words in ("requests/s", "first token", "per token", "whole answer", "saved/s", "server, 1 client"):
        assert words in err
        assert words in page.read_text()
    assert len(json.loads(saved.read_text())["results"]) == 2
    if _draws():
        assert drawn.read_text().count("<svg") == 1


def _draws() -> bool:
    from illava_cli.drawing import has_matplotlib

    return has_matplotlib()


def test_presets_are_compared_on_a_server_that_runs(on, server):
    server.answer = as_a_model
    report = on("--concurrency", 2, "--preset", "auto", "--preset", "off")
    (compared,) = report["comparison"]
    assert (compared["server"], compared["over"]) == ("auto", "off")
    auto, off = report["results"]
    assert (auto["tokens"]["visual_saved"], off["tokens"]["visual_saved"]) == (4 * (729 - 224), 0)
    pictures = {}
    for body in server.bodies:
        url = body["messages"][0]["content"][0]["image_url"]["url"]
        pictures.setdefault(body["preset"], set()).add(url)
    assert pictures["auto"] & pictures["off"]  # both are asked the same


def test_media_of_the_users(bench, server, tmp_path):
    for seed in range(3):
        picture(20, 20, seed).save(tmp_path / f"{seed}.png")
    lines = [{"image": "0.png", "prompt": "How many <image> are there?"}, {"image": ["1.png", "2.png"]}]
    manifest = tmp_path / "asked.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, _, err = bench("--server", server.url, *QUICK[:4], "--concurrency", 1, "--media", manifest)
    assert code == 0, err
    contents = [body["messages"][0]["content"] for body in server.bodies]
    assert [[part["type"] for part in content] for content in contents[:2]] == [
        ["text", "image_url", "text"],
        ["image_url", "image_url", "text"],
    ]
    assert contents[2] == contents[0]


def test_conversations_and_clips(on, server):
    report = on("--concurrency", 1, "--turns", 2, "--frames", 3)
    assert [turn["requests"] for turn in report["results"][0]["turns"]] == [2, 2]
    assert server.bodies[0]["messages"][0]["content"][0]["type"] == "video_url"
    assert server.bodies[0]["media_io_kwargs"] == {"video": {"num_frames": 3}}
    assert len(server.bodies[1]["messages"]) == 3


def test_answers_of_equal_length(on, server):
    server.answer = lambda body: (
        Canned(status=400, error="ignore_eos: is not supported") if "ignore_eos" in body else Canned()
    )
    report = on("--concurrency", 1, "--equal-length", "--end-token", 7)
    assert report["servers"][0]["equal_length"] == "logit_bias"
    assert server.bodies[-1]["logit_bias"] == {"7": -100}
    report = on("--concurrency", 1, "--equal-length")
    assert report["servers"][0]["equal_length"] is None
    assert any("--end-token" in note for note in report["notes"])


# --- failures -------------------------------------------------------------------------------------


def test_failures_are_counted_by_kind(on, server):
    numbers = iter(range(1000))
    server.answer = lambda body: Canned(status=429, error="later") if next(numbers) % 2 else as_a_model(body)
    (result,) = on("--concurrency", 1)["results"]
    assert result["failed"] == 2
    assert result["errors"] == [{"kind": "status 429", "count": 2, "message": "later"}]


def test_where_all_requests_fail_the_code_is_3(bench, server):
    server.answer = lambda body: Canned(status=500, error="oh no")
    code, out, err = bench("--server", server.url, *QUICK, "--concurrency", 1)
    assert (code, out) == (3, "")
    assert "oh no" in err
    assert "status 500" in err


def test_a_server_that_is_not_there_is_one_line(bench):
    code, out, err = bench("--server", "http://127.0.0.1:9")
    assert (code, out) == (1, "")
    assert err.startswith("illava: error: http://127.0.0.1:9/v1: cannot be reached")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--requests", "3", "--seconds", "3"], "--requests and --seconds"),
        (["--seconds", "0"], "--seconds"),
        (["--concurrency", "0"], "--concurrency"),
        (["--rate", "0"], "--rate"),
        (["--size", "big"], "1024x768"),
        (["--size", "0x4"], "1024x768"),
        (["--size", "31x32", "--frames", "2"], "even"),
        (["-m", "tiny", "--server", "http://h"], "give one"),
        (["-m", "tiny", "--preset", "papr"], "'paper'"),
        (["--dtype", "float32"], "name its model with -m"),
        (["--media", "x.jpg", "--size", "4x4"], "--media"),
        (["--server", "ftp://h"], "http://"),
        (["--format", "xml"], "text or json"),
        (["--serve-args", "--readers 'x"], "--serve-args"),
    ],
    ids=" ".join,
)
def test_contradictions_are_one_line(bench, options, words):
    code, out, err = bench(*options)
    assert (code, out) == (2, "")
    assert err.startswith("illava: error: ")
    assert err.count("\n") == 1
    assert words in err


def test_flags_of_bench_do_not_stand_before_serve(capsys):
    assert main(["bench", "--tiles", "2", "serve"]) == 2
    assert "--tiles stands before serve" in capsys.readouterr().err


def test_ctrl_c_gives_what_was_measured_so_far(bench, server):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background ignores it
    numbers, lock = iter(range(1000)), threading.Lock()

    def answer(body):
        with lock:
            number = next(numbers)
        if number == 4:  # the one client has had the answers before this
            os.kill(os.getpid(), signal.SIGINT)
        return as_a_model(body, held=number > 3)

    server.answer = answer
    try:
        code, out, _ = bench(
            *("--server", server.url, "--size", "16x16", "--format", "json"),
            *("--concurrency", 1, "--concurrency", 2, "--warmup", 1),
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130
    (result,) = json.loads(out)["results"]
    assert (result["requests"], result["stopped"]) == (3, True)


def test_what_was_measured_is_told_where_a_later_server_cannot_be_had(bench, server, monkeypatch):
    two = ("--preset", "auto", "--preset", "off")
    monkeypatch.setattr(measuring, "about", Once(measuring.about))
    code, out, err = bench("--server", server.url, *QUICK, "--concurrency", 1, *two, "--format", "json")
    assert code == 1
    assert [one["server"] for one in json.loads(out)["results"]] == ["auto"]
    assert err.endswith("illava: error: gone\n")


class Once:
    """What a server says of itself, once; then it is gone."""

    def __init__(self, about):
        self.about = about

    def __call__(self, server):
        if self.about is None:
            raise ServerError("gone")
        said, self.about = self.about(server), None
        return said


# --- flags ----------------------------------------------------------------------------------------


def test_model_flags_are_handed_on_as_they_were_given():
    flags = ModelFlags(
        model="tiny", compile=False, tile_each=True, settings=["a=1", "b=2"], num_frames=4, quiet=True
    )
    assert arguments(flags) == [
        *("--model", "tiny"),
        "--no-compile",
        *("--num-frames", "4"),
        "--tile-each",
        *("--set", "a=1", "--set", "b=2"),
    ]
    assert arguments(ModelFlags()) == []
