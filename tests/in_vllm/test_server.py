"""`illava serve --engine vllm` and `illava batch --engine vllm`, as programs."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import openai
import psutil
import pytest

from illava_cli import load
from illava_cli.vllm.server import answered, free_port, running
from tests.conftest import picture
from tests.in_vllm.asking import Engines
from tests.media_files import write_clip
from tests.processes import Process, run

ILLAVA = [sys.executable, "-m", "illava_cli"]
SMALL = ["--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "4"]
FAMILY = "llava_onevision"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return Engines(tmp_path_factory.mktemp("server")).checkpoint(FAMILY)


@contextmanager
def served(checkpoint, *flags):
    """OpenAI's client of a server that runs meanwhile, and how it was started."""
    port = free_port()
    command = [*ILLAVA, "serve", "--engine", "vllm", "-m", checkpoint, "--dtype", "float32", *flags]
    command += ["--served-name", "small", "--port", str(port), "--", *SMALL]
    with running(command, port) as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def asked(client, number=1, text="What is this?", temperature=0, **wish):
    data = io.BytesIO()
    picture(84, 84, number).save(data, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return client.chat.completions.create(
        model="small",
        messages=[{"role": "user", "content": content}],
        max_tokens=4,
        temperature=temperature,
        extra_body={"mm_processor_kwargs": wish} if wish else {},
    )


def test_a_server_reduces_as_it_was_told_and_as_a_request_says(checkpoint):
    with served(checkpoint, "--preset", "off") as client:
        assert [model.id for model in client.models.list()] == ["small"]
        whole = asked(client).usage.prompt_tokens
        half, quarter = (asked(client, keep=keep).usage.prompt_tokens for keep in (0.5, 0.25))
        assert quarter < half < whole
        refused = {"keep": (2, "keep"), "preset": ("none", "no such preset"), "rubbish": (1, "no rubbish")}
        for name, (value, why) in refused.items():
            with pytest.raises(openai.BadRequestError, match=why):
                asked(client, **{name: value})
        with pytest.raises(openai.BadRequestError, match="<image>"):
            asked(client, text="What is <image>?")
        assert asked(client).usage.prompt_tokens == whole
        said = {asked(client, temperature=openai.omit).choices[0].message.content for _ in range(4)}
        assert len(said) == 1  # greedy where nobody says otherwise


def test_a_clip_has_the_frames_that_a_request_asks_for(checkpoint, tmp_path):
    path = write_clip(tmp_path / "clip.mp4", frames=24, size=(84, 84))
    url = f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"
    content = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "What happens?"}]

    def prompt_tokens(**own):
        said = client.chat.completions.create(
            model="small", messages=[{"role": "user", "content": content}], max_tokens=2, extra_body=own
        )
        return said.usage.prompt_tokens

    with served(checkpoint, "--preset", "off", "--num-frames", "8") as client:
        eight = prompt_tokens()
        four = prompt_tokens(media_io_kwargs={"video": {"num_frames": 4}})
        budget = prompt_tokens(mm_processor_kwargs={"video_budget": 20})
    session = load(checkpoint, preset="off", device="cpu", dtype="float32", max_tokens=2, num_frames=8)
    visual = session.ask("What happens?", videos=[str(path)]).usage.visual
    text = eight - visual.llm_in - visual.newlines_in
    frame = (eight - four) / 4
    assert frame == int(frame) > 0
    assert budget - text == 20


def test_vllms_exit_code_is_ours(checkpoint):
    command = [*ILLAVA, "serve", "--engine", "vllm", "-m", checkpoint, "--", "--no-such-option"]
    ended = run(command)
    assert ended.returncode == 2
    assert "no-such-option" in ended.stderr


def test_a_signal_ends_it(checkpoint):
    port = free_port()
    command = [*ILLAVA, "serve", "--engine", "vllm", "-m", checkpoint, "--port", str(port), "--", *SMALL]
    with Process(command, stderr=subprocess.DEVNULL) as server:
        answered(server, f"http://127.0.0.1:{port}/health")
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) in (0, -signal.SIGTERM)


def test_a_batch_goes_on_where_it_was(checkpoint, tmp_path):
    for number in range(4):
        picture(84 + 14 * number, 84, number).save(tmp_path / f"{number}.png")
    out = tmp_path / "answers.jsonl"
    command = [*ILLAVA, "batch", str(tmp_path), "-p", "What is this?", "-o", str(out), "--engine", "vllm"]
    command += ["-m", checkpoint, "--dtype", "float32", "--max-tokens", "4", "--", *SMALL]
    ended = run(command)
    assert ended.returncode == 0, ended.stderr[-2000:]
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(os.path.basename(record["id"]) for record in records) == [f"{n}.png" for n in range(4)]
    assert all(record["status"] == "ok" for record in records)
    again = run(command)
    assert again.returncode == 0
    assert "nothing to ask" in again.stderr


def test_a_batch_whose_vllm_dies_says_so_and_goes_on_later(checkpoint, tmp_path):
    for number in range(40):
        picture(84 + number, 84, number).save(tmp_path / f"{number}.png")
    out = tmp_path / "answers.jsonl"
    command = [*ILLAVA, "batch", str(tmp_path), "-p", "What is this?", "-o", str(out), "--engine", "vllm"]
    command += ["-m", checkpoint, "--dtype", "float32", "--max-tokens", "64", "--", *SMALL]
    with Process(command, stderr=subprocess.PIPE, text=True) as batch:
        while not out.exists() or out.read_bytes().count(b"\n") < 4:
            assert batch.poll() is None, batch.stderr.read()
            time.sleep(0.05)
        for process in psutil.Process(batch.pid).children(recursive=True):
            process.kill()
        _, said = batch.communicate()
    assert batch.returncode == 1
    line = said.splitlines()[-1]
    assert line.startswith("illava: error: ")
    assert line.endswith(": vLLM ended with code -9, its messages say why")
    whole = out.read_text()
    ended = run(command)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert out.read_text().startswith(whole)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(int(Path(record["id"]).stem) for record in records if record["status"] == "ok") == [
        *range(40)
    ]


def test_a_batch_that_is_killed_takes_its_vllm_along(checkpoint, tmp_path):
    picture(84, 84, 1).save(tmp_path / "a.png")
    command = [*ILLAVA, "batch", str(tmp_path), "-p", "What is this?", "-o", str(tmp_path / "a.jsonl")]
    command += ["--engine", "vllm", "-m", checkpoint, "--dtype", "float32", "--", *SMALL]
    with Process(command, stderr=subprocess.DEVNULL) as batch:
        started: list[psutil.Process] = []
        while len(started) < 2:  # the server, and an engine of its own
            assert batch.poll() is None
            time.sleep(0.05)
            started = psutil.Process(batch.pid).children(recursive=True)
        batch.kill()
        _, alive = psutil.wait_procs(started, timeout=60)
        assert not alive
