"""The program with sources of every kind: what is told of them, and how it ends while one is being read."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from illava_cli.cli.messages import Messages
from illava_cli.cli.repl import Repl
from illava_cli.errors import MediaError
from tests.batch.program import Program
from tests.conftest import picture
from tests.media.server import serving
from tests.processes import Process, run

ROOT = Path(__file__).parents[1]
ILLAVA = [sys.executable, "-m", "illava_cli.cli.app"]
TINY = ["-m", "tiny", "--device", "cpu", "--max-tokens", "2", "-q"]


@pytest.fixture(autouse=True, scope="module")
def no_settings():
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("ILLAVA_") or name.lower().endswith("_proxy"):
                patch.delenv(name)
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


@pytest.fixture
def site():
    with serving() as site:
        yield site


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program, which starts at once."""
    program = Program(tmp_path_factory.mktemp("program"))
    yield program
    program.close()


@pytest.fixture
def png() -> bytes:
    file = io.BytesIO()
    picture(60, 40).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("command", [["run"], ["run", "--compare"], ["visualize", "-o", "page"]])
def test_the_first_ctrl_c_ends_a_download(site, program, command):
    url, sent = site.drips("/a.png")
    pid = program.start(*command, *TINY, "--image", url, "-p", "What?")
    assert sent.wait(300)
    os.kill(pid, signal.SIGINT)
    assert program.wait() == 130
    assert "Traceback" not in program.said()


def test_sigterm_ends_a_download_and_leaves_a_record(site, tmp_path):
    url, sent = site.drips("/a.png")
    with Process(
        [*ILLAVA, "run", *TINY, "--image", url, "-p", "What?", "--format", "json"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert sent.wait(300)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert (process.returncode, err) == (143, b"")
    assert json.loads(out)["error"]["type"] == "Terminated"


def test_a_slow_server_is_one_line_that_names_the_flag(site, program):
    url, _ = site.drips("/a.png")
    assert program.run("run", *TINY, "--image", url, "-p", "What?", "--media-timeout", "0.1") == 1
    assert program.said() == f"illava: error: {url}: not read within 0.1 s (--media-timeout allows more)\n"


@pytest.mark.parametrize("readers", ["0", "1"])
def test_a_batch_has_the_limit_of_each_medium_too(program, tmp_path, readers):
    os.mkfifo(tmp_path / "x.png")
    limit = ["--media-timeout", "0.1", "--readers", readers]
    path = str(tmp_path / "x.png")
    assert program.run("batch", *TINY, path, "-p", "What?", "-o", str(tmp_path / "b.jsonl"), *limit) == 3
    error = json.loads((tmp_path / "b.jsonl").read_text())["error"]
    assert (error["type"], "--media-timeout" in error["message"]) == ("Timeout", True)


def test_no_password_and_no_megabytes_in_whatever_is_written(site, program, tmp_path, png):
    """Records, ids and messages: of a run, and of a batch with each form of output."""
    site.gives("/a.png", png)
    good, bad = (f"http://jo:hush-hush@{site.host}/{name}.png" for name in ("a", "none"))
    inline = "data:image/png;base64," + base64.b64encode(png).decode()
    (tmp_path / "m.jsonl").write_text(json.dumps({"images": [good, inline], "prompt": "What?"}))
    inputs = [*TINY, good, bad, inline, str(tmp_path / "m.jsonl"), "-p", "What?"]
    said = []
    for code, *arguments in (
        (0, "run", *TINY, "--image", good, "--image", inline, "-p", "What?", "--format", "json"),
        (3, "batch", *inputs, "-o", str(tmp_path / "b.jsonl"), "--readers", "1"),
        (3, "batch", *inputs, "-o", str(tmp_path / "b.csv"), "--readers", "0"),
        (3, "batch", *inputs, "--out-dir", str(tmp_path / "texts"), "--readers", "0"),
    ):
        assert program.run(*arguments) == code, program.said()
        said.append(program.said())
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "m.jsonl"]
    assert len(files) == 7  # JSONL, CSV and its journal, three texts and theirs
    written = {str(path): path.read_text() for path in files} | dict(enumerate(said))
    assert [name for name, text in written.items() if "hush" in f"{name}{text}"] == []
    assert [name for name, text in written.items() if inline[40:80] in f"{name}{text}"] == []
    sent = {headers.get("Authorization") for path, headers in site.asked if path == "/a.png"}
    assert sent == {"Basic " + base64.b64encode(b"jo:hush-hush").decode()}


def test_a_chat_tells_no_password_either(site, png, open_session, tmp_path, capsys):
    site.gives("/a.png", png)
    good, bad = (f"http://jo:hush-hush@{site.host}/{name}.png" for name in ("a", "none"))
    said = []
    conversation = Repl(open_session("llava_onevision", "generation.max_tokens=2"), Messages(), said.append)
    conversation.handle(f"/image {good}")
    conversation.handle("What?")
    conversation.handle(f"/image {bad}")
    with pytest.raises(MediaError) as refused:
        conversation.handle("What?")
    for name in ("c.md", "c.json", "c.txt"):
        conversation.handle(f"/save {tmp_path / name}")
        assert "hush" not in (tmp_path / name).read_text()
    shown = capsys.readouterr()
    assert "no longer attached" in shown.err
    assert "hush" not in shown.err + shown.out + str(refused.value)


@pytest.mark.parametrize(
    "arguments",
    [["run", *TINY, "-p", "x", "--image", "a.png"], ["config", "show"], ["batch", "a.png", "-p", "x"]],
)
def test_a_working_directory_that_is_gone_is_one_line(tmp_path, arguments):
    folder = tmp_path / "gone"
    folder.mkdir()
    code = f"import os, sys; os.rmdir({str(folder)!r}); os.execv(sys.executable, {[*ILLAVA, *arguments]!r})"
    done = run([sys.executable, "-c", code], cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "illava: error: the working directory is not there any more (No such file or directory): "
        "cd to one that is\n"
    )
