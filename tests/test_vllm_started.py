"""With what vLLM is started, and what of it is refused."""

from __future__ import annotations

import json
import os
import sys

import pytest

from illava_cli.client.settings import InVllm, fields
from illava_cli.config import resolve
from illava_cli.errors import UsageError
from illava_cli.vllm import MODELS, server
from illava_cli.vllm.launch import engine_settings
from tests.builders import WRITERS
from tests.processes import ROOT, run


@pytest.mark.parametrize("family", MODELS)
def test_what_vllm_is_started_with(family, checkpoints):
    config = resolve(checkpoints(family), settings=["preset=best"], environ={})
    settings = engine_settings(config)
    overrides = settings["hf_overrides"]
    assert overrides["architectures"] == [MODELS[family][0]]
    assert json.loads(overrides["illava"])["preset"] == "best"
    if family in ("internvl", "llava_next", "llava_onevision"):
        width, *others = overrides["text_config"]["rope_parameters"]["mrope_section"]
        assert 2 * width == 8  # of the builders' heads
        assert others == [0, 0]
    else:
        assert "text_config" not in overrides


@pytest.mark.parametrize(
    ("model", "why"), [("random:llava-onevision-toy", "loads checkpoints"), ("gemma4", "knows")]
)
def test_a_model_that_vllm_is_not_given(model, why, checkpoints):
    named = checkpoints(model) if model == "gemma4" else model
    with pytest.raises(UsageError, match=why):
        engine_settings(resolve(named, environ={}))


def test_a_rope_that_vllm_gives_no_gaps_is_refused_in_a_line(tmp_path):
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    WRITERS["llava_onevision"](tmp_path / "a", text_config={"rope_parameters": rope})
    with pytest.raises(UsageError, match="'dynamic': use --engine illava"):
        engine_settings(resolve(str(tmp_path / "a"), environ={}))


def test_one_of_two_ways_to_give_a_key(checkpoints):
    command = [sys.executable, "-m", "illava_cli", "serve", "-m", checkpoints("qwen2_vl"), "--engine", "vllm"]
    ended = run([*command, "--api-key", "a"], env=os.environ | {"ILLAVA_API_KEY": "b"})
    assert ended.returncode == 2
    assert "takes one of them" in ended.stderr


def test_a_command_passes_on_what_stands_behind_the_dashes(checkpoints, monkeypatch):
    monkeypatch.setattr(server, "check_version", lambda: None)
    config = resolve(checkpoints("qwen2_vl"), settings=["model.dtype=float32"], environ={})
    command = server.server_command(config, "name", ("127.0.0.1", 8123), ["--max-model-len", "512"], print)
    assert command[-2:] == ["--max-model-len", "512"]
    for flag, value in (("--port", "8123"), ("--served-model-name", "name"), ("--dtype", "float32")):
        assert command[command.index(flag) + 1] == value


@pytest.mark.parametrize(
    ("settings", "rest", "why"),
    [
        (["model.compile=true"], [], "after --"),
        (["model.device=cuda:1"], [], "model.device: the engine vllm has options of its own"),
        (["generation.seed=3"], [], "generation.seed"),
        (["media.start=2"], [], "media.start"),
        ([], ["--hf-overrides", "{}"], "--hf-overrides is given by illava"),
        ([], ["--video_pruning_rate=0"], "--video-pruning-rate is given by illava"),
        ([], ["--hf-overrides.text_config.x", "1"], "--hf-overrides is given by illava"),
        ([], ["--hf-over", "{}"], "--hf-overrides is given by illava"),
        ([], ["--por", "7"], "--port is given by illava"),
        ([], ["--override-generation-config.top_k=5"], "with --temperature"),
        (["media.media_timeout=3"], [], "media.media_timeout"),
        ([], ["--port", "1"], "before --"),
        ([], ["--api-key=x"], "before --"),
    ],
)
def test_what_vllm_cannot_be_told_is_refused(settings, rest, why, checkpoints, monkeypatch):
    monkeypatch.setattr(server, "check_version", lambda: None)
    config = resolve(checkpoints("qwen2_vl"), settings=settings, environ={})
    with pytest.raises(UsageError, match=why):
        server.server_command(config, "name", ("127.0.0.1", 1), rest, print)


def test_the_decoding_and_the_frames_are_passed_on_by_their_names(checkpoints, monkeypatch):
    monkeypatch.setattr(server, "check_version", lambda: None)
    settings = ["generation.top_p=0.5", "generation.max_tokens=9", "media.num_frames=4"]
    config = resolve(checkpoints("qwen2_vl"), settings=settings, environ={})
    command = server.server_command(config, "name", ("127.0.0.1", 1), [], print)
    told = json.loads(command[command.index("--override-generation-config") + 1])
    # greedy where nobody says otherwise, as illava is; a bound of the answer would be one for every request
    assert told == {"temperature": 0.0, "top_p": 0.5}
    assert json.loads(command[command.index("--media-io-kwargs") + 1]) == {"video": {"num_frames": 4}}
    assert command[command.index("--generation-config") + 1] == "vllm"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ["serve", "-m", "tiny", "--engine", "vllm", "--chunk", "8"],
            "--chunk does nothing with --engine vllm",
        ),
        (["serve", "-m", "tiny", "--engine", "nothing"], "expected illava or vllm"),
        (["batch", "x.png", "-p", "?", "-m", "tiny", "--engine", "vllm", "--workers", "ray"], "--workers"),
        (["batch", "x.png", "-p", "?", "-m", "tiny", "--engine", "vllm", "--server", "http://x"], "--server"),
        (["batch", "x.png", "-p", "?", "-m", "tiny", "--engine", "vllm", "--", "--headless"], "--headless"),
        (["batch", "x.png", "-p", "?", "-m", "tiny", "--engine", "vllm", "--", "--uds=/x"], "--uds"),
        (["serve", "-m", "tiny", "--engine", "vllm", "--max-tokens", "8"], "--max-tokens does nothing"),
    ],
)
def test_options_of_another_engine(arguments, why):
    ended = run([sys.executable, "-m", "illava_cli", *arguments], cwd=ROOT)
    assert ended.returncode == 2
    assert why in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_batch_in_vllm_is_the_same_run_each_time(checkpoints):
    config = resolve(checkpoints("qwen2_vl"), settings=["preset=best", "media.num_frames=4"], environ={})
    made, again = InVllm.of(config, "name"), InVllm.of(config, "name")
    assert made.identity() == again.identity()
    other = resolve(checkpoints("qwen2_vl"), settings=["preset=auto", "media.num_frames=4"], environ={})
    assert InVllm.of(other, "name").identity() != made.identity()
    assert InVllm.of(config, "name", ["--max-model-len", "9"]).identity() != made.identity()
    assert fields(made)["media_io_kwargs"] == {"video": {"num_frames": 4}}
    assert "preset" not in fields(made)  # the server was started with it
    named = made.model_copy(update={"preset": "off"})
    named.model_fields_set.add("preset")
    assert fields(named)["mm_processor_kwargs"] == {"preset": "off"}
