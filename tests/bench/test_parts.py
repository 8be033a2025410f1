"""The small parts of a report: spreads, speed-ups, memory, the machine, tables and the page."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from illava_cli.bench import machine
from illava_cli.bench.compare import batching
from illava_cli.bench.lab import Plan, in_turn
from illava_cli.bench.markdown import main, page
from illava_cli.bench.rivals import bipartite, keep_highest
from illava_cli.bench.samples import Sample, speedups, spread, summary
from illava_cli.engine.features import TENSORS
from illava_cli.engine.memory import PeakMeter
from illava_cli.models.encoder import encode
from illava_cli.models.entering import admitted
from illava_cli.models.schedule import WINDOW
from illava_cli.reduction import received_attention
from tests import processes
from tests.conftest import clip
from tests.schedules import SCHEDULES


def sample(factor=1.0, new_tokens=5):
    return Sample(0.5 * factor, 2 * factor, 1 * factor, 4 * factor, 8 * factor, new_tokens)


def test_spread():
    assert spread([3, 1, 2]) == {"median": 2, "min": 1, "max": 3}
    assert spread([None, None]) is None


def test_summary():
    record = summary([sample(), sample(3), sample(2)], batch=4)
    assert record["seconds"]["ttft"]["median"] == 7.0
    assert record["seconds"]["per_token"]["min"] == 1.0
    assert record["requests_per_s"] == {"median": 0.25, "min": 4 / 24, "max": 0.5}
    assert record["tokens_per_s"]["median"] == 4 * 5 / 16
    assert summary([sample(new_tokens=1)], 1)["seconds"]["per_token"] is None


def test_speedups_are_taken_pair_by_pair():
    faster = speedups([sample(), sample(10)], [sample(0.5), sample(2.5)])
    assert faster["vision"] == {"median": 3.0, "min": 2.0, "max": 4.0}


def test_a_deadline_stops_rounds_but_the_first():
    assert list(Plan(1, 3).each_round()) == [0, 1, 2]
    assert list(Plan(1, 3, deadline=0.0).each_round()) == [0]


def test_batching_compares_with_single_requests():
    def result(batch, seconds):
        return {
            "medium": {"kind": "image", "label": "1 tile"},
            "batch_size": batch,
            "variants": {"paper": {"seconds": {"request": {"median": seconds}}}},
        }

    gains = batching([result(1, 2.0), result(8, 4.0)])
    assert [(g["batch_size"], g["single_requests_s"], g["speedup"]) for g in gains] == [(8, 16.0, 4.0)]
    assert batching([result(8, 4.0)]) == []


def test_peak_memory_sees_what_was_freed(capfd):
    with PeakMeter(torch.device("cpu")) as meter:
        for _ in range(3):
            torch.ones(50_000_000).sum()
    assert 200e6 <= meter.peak_bytes < 201e6
    assert capfd.readouterr() == ("", "")
    with PeakMeter(torch.device("cpu")) as meter, pytest.raises(ValueError, match="broken"):
        raise ValueError("broken")


def test_the_memory_meter_lets_warnings_through():
    script = (
        "import torch, warnings\nfrom illava_cli.engine.memory import PeakMeter\n"
        "before = torch.ones(9)\n"
        "with PeakMeter(torch.device('cpu')):\n"
        "    del before\n"  # PyTorch's profiler writes a line about it
        "    warnings.warn('heard')\n"
    )
    run = processes.run([sys.executable, "-c", script])
    run.check_returncode()
    assert [line for line in run.stderr.splitlines() if "warn" in line.lower()] == [
        "<string>:6: UserWarning: heard"
    ]
    assert "Memory block" not in run.stderr


def test_machine_names_no_host_and_no_folder(tmp_path, monkeypatch):
    import platform

    file = tmp_path / "photo.jpg"
    file.write_bytes(b"")
    given = ["--image", str(file), f"--save={file}", "-m", "random:x", "a/b", "--variant", "half: r=[1, 2]"]
    described = machine.describe(["bench", *given])
    assert described["command"] == (
        "illava bench --image photo.jpg --save=photo.jpg -m random:x a/b --variant 'half: r=[1, 2]'"
    )
    text = json.dumps(described)
    assert str(tmp_path) not in text
    assert f'"{platform.node()}"' not in text
    assert {"cpu", "cores", "threads", "memory_bytes", "gpus", "os", "torch", "commit"} <= described.keys()


def test_slug():
    cpu = {"cpu": "AMD EPYC(TM) 9B45", "cores": 2, "gpus": []}
    assert machine.slug(cpu) == "amd-epyc-9b45-2-cores"
    assert machine.slug(cpu | {"gpus": [{"name": "NVIDIA H200"}]}) == "nvidia-h200"


def test_what_is_missing_was_not_measured(tmp_path, capsys):
    assert main([str(tmp_path / "gpu.7b.json")]) == 0
    text = capsys.readouterr().out
    assert "## 7b\n\nNot measured." in text
    assert "Not measured." in page({"a": None})


def test_bipartite_keeps_the_mass():
    """ToMe's averages weighted by size: every token still counts once."""
    x = torch.randn(1, 9, 4)
    ones = torch.ones_like(x)
    out = bipartite(x, torch.randn(1, 9, 3), 3)
    assert out.shape == (1, 6, 4)
    torch.testing.assert_close(bipartite(ones, torch.randn(1, 9, 3), 3), ones[:, :6])
    same = torch.eye(4)[[0, 0, 1, 1]][None]  # tokens 0, 1 and 2, 3 point the same way
    merged = bipartite(torch.arange(4.0).view(1, 4, 1), same, 2)
    assert merged.flatten().tolist() == [0.5, 2.5]


def test_rounds_go_there_and_back():
    variants = {"transformers": 1, "paper": 2, "off": 3}
    assert [[name for name, _ in in_turn(variants, n)] for n in range(3)] == [
        ["transformers", "paper", "off"],
        ["off", "paper", "transformers"],
        ["transformers", "paper", "off"],
    ]


def test_keep_highest_keeps_the_order():
    x = torch.arange(5.0).view(1, 5, 1)
    scores = torch.tensor([[0.3, 0.1, 0.5, 0.2, 0.4]])
    assert keep_highest(x, scores, 2).flatten().tolist() == [0, 2, 4]


def report(memory=None, **parts):
    machine = {
        "cpu": "CPU",
        "cores": 2,
        "threads": 2,
        "memory_bytes": memory,
        "gpus": [],
        "os": "Linux",
        "python": "3",
        "torch": "2",
        "transformers": "5",
        "illava": "0",
        "commit": "abc",
        "command": "illava bench",
    }
    model = {"id": "random:x", "dtype": "float32", "attn": "sdpa", "device": "cpu"}
    return {"model": model, "machine": machine} | parts


@pytest.mark.parametrize("memory", [None, 8e9])
def test_page_says_what_is_known(memory):
    text = page({"a": report(memory), "b": None})
    assert "- GPU: none" in text
    assert "    illava bench" in text
    assert "commit abc" in text
    assert ("8 GB" in text) == (memory is not None)


@pytest.mark.parametrize(
    ("gain", "said"), [(1.5, "None of the 1 merged requests was slower"), (0.9, "Slower than the unmodified")]
)
@pytest.mark.parametrize("fewer", [{"llm_kept": 3}, {"vision_kept": 3}, {"left_out": 6}])
def test_page_says_whether_a_merged_request_was_slower(fewer, gain, said):
    """What is left whole is not counted: nothing was merged there."""
    whole = {"patches": 9, "vision_kept": 9, "llm_in": 9, "llm_kept": 9}

    def variant(visual, speed):
        stages = ("media", "vision", "prefill", "ttft", "per_token", "request")
        same = {"median": speed, "min": speed, "max": speed}
        against = {k: dict.fromkeys(stages, v) for k, v in (("bound", 2.0), ("efficiency", speed / 2))}
        return {
            "tokens": {"prompt": 9, "visual": visual},
            "seconds": dict.fromkeys(stages, same),
            "requests_per_s": same,
            "tokens_per_s": same,
            "peak_bytes_beyond_weights": 1,
            "speedup": dict.fromkeys(stages, same),
            **against,
        }

    variants = {"off": variant(whole, 0.5), "paper": variant(whole | fewer, gain)}
    result = {"medium": {"label": "1 tile"}, "batch_size": 1, "variants": variants}
    assert said in (text := page({"a": report(results=[result])}))
    assert f"{gain:.2f}x" in text


AS_TURBO = (
    "preset=off", "layout=faithful", "positions=original",
    "frames={still: 3, still_frames: 3}", "pixels={tau: 8, every: 2, keep: 0.4}",
    "input={method: diversity-assign, keep: 0.5}",
)  # fmt: skip
RUNS = (
    "preset=off", "layout=faithful", "positions=original",
    "frames={method: runs, layers: [-1], keep: 0.5, still: 3}", "input={method: fastvid, keep: 0.4}",
)  # fmt: skip
TURBO = {
    "llava, half of the frames": ("llava_onevision", RUNS),
    "qwen, half of the frames": ("qwen2_vl", RUNS),
    "llava as turbo": ("llava_onevision", AS_TURBO),
    "qwen as turbo": ("qwen2_vl", AS_TURBO),
    "qwen, no more than 64 tokens": ("qwen2_vl", (*AS_TURBO, "media.video_budget=64")),
}


@pytest.mark.parametrize(
    ("name", "few"),
    [("llava faithful, original", 16), ("llava grid, paper", 16), ("qwen, paper", 16)]
    + [(name, 4 * WINDOW) for name in TURBO],  # frames of a window are looked at together
)
def test_the_towers_peak_memory_does_not_grow_with_the_frames(name, few, open_session):
    """Four times the frames: on top comes what the decoder takes, joined once, and where frames stand."""
    family_key, settings = (SCHEDULES | TURBO)[name]
    family = (session := open_session(family_key, *settings, fresh=True)).family
    schedule, budget = session.schedules["video"], session.config.media.video_budget

    def prepared(frames):
        return family.preprocess_video([family.resize_frame(frame, frames) for frame in clip(frames, 60, 60)])

    family.chunk_bytes = 4 * prepared(2).tokens * family.bytes_per_token()
    peaks, kept = [], []
    for frames in (few, 4 * few):
        pixels = replace(admitted(prepared(frames), schedule), budget=budget)
        with torch.inference_mode(), PeakMeter(family.device) as meter:
            (features,) = encode(family, [pixels], [schedule])
        peaks.append(meter.peak_bytes)
        kept.append(sum(getattr(features, tensor).nbytes for tensor in TENSORS))
    assert peaks[1] - peaks[0] <= 3 * (kept[1] - kept[0]) + 128 * 3 * few


@pytest.mark.needs("git")
def test_a_changed_preset_marks_the_commit_and_a_new_report_does_not(tmp_path, monkeypatch):
    """What is measured is code and presets; the reports that it replaces are neither."""
    package = tmp_path / "illava_cli" / "bench"
    presets, reports = tmp_path / "configs" / "presets", tmp_path / "docs"
    for folder in (package, presets, reports):
        folder.mkdir(parents=True)
    (presets / "paper.yaml").write_text("r: 92")
    (reports / "old.json").write_text("{}")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "start"]):
        processes.run(["git", *arguments], cwd=tmp_path).check_returncode()
    monkeypatch.setattr(machine, "__file__", str(package / "machine.py"))
    (reports / "old.json").write_text("{1}")
    assert not machine.commit().endswith("+changes")
    (presets / "paper.yaml").write_text("r: 64")
    assert machine.commit().endswith("+changes")


def test_scores_of_32_frames_stay_within_64_mib():
    """6,272 visual tokens, 28 heads; blocks are sized by bytes: few queries need as much as all."""
    torch.manual_seed(0)
    query = torch.randn(1, 28, 64, 128, dtype=torch.bfloat16)
    key = torch.randn(1, 4, 6272, 128, dtype=torch.bfloat16)
    with PeakMeter(torch.device("cpu")) as meter:
        received_attention(query, key, scaling=128**-0.5, causal_offset=6272 - 64)
    assert 0 < meter.peak_bytes <= 64 << 20
