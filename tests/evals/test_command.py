"""`illava eval` as it is run: the report, its files, going on after a kill, and what it refuses."""

import importlib.util
import json
import signal
import time

import pytest

from illava_cli.cli.app import main
from illava_cli.evals import plot
from tests.evals.conftest import MERGING


def test_report(evaluate, task_file, tmp_path):
    saved, page = tmp_path / "report.json", tmp_path / "report.md"
    arguments = ["--tasks", task_file, "--variant", MERGING, "--blind", "--save", saved, "--markdown", page]
    code, report, err = evaluate(*arguments)
    assert code == 0
    assert json.loads(saved.read_text()) == report
    assert list(report["variants"]) == ["off", "blind", "merging"]
    assert list(report["tasks"]) == ["mine", "odd"]
    assert report["all"]["questions"] == 6
    assert report["settings"]["tasks"] == ["mine.jsonl"]
    merging = report["all"]["variants"]["merging"]
    assert (
        merging["visual_tokens"]["llm_kept"] < report["all"]["variants"]["off"]["visual_tokens"]["llm_kept"]
    )
    assert set(merging) == {
        "answered", "failed", "accuracy", "difference", "agreement", "kl", "visual_tokens", "seconds",
        "peak_bytes_beyond_weights", "survivors",
    }  # fmt: skip
    assert report["variants"]["merging"]["reduction"]["llm"]["keep"] == 0.5
    assert "6 questions" in err
    assert "| 6 questions | accuracy % | change |" in page.read_text()
    assert str(tmp_path) not in page.read_text()


def test_the_world_and_a_preset_by_default(capsys):
    arguments = [
        "-m",
        "random:llava-onevision-toy",
        "--device",
        "cpu",
        "--max-tokens",
        "1",
        "--max-tiles",
        "1",
    ]
    code = main(["eval", *arguments, "--tasks", "world:colour,count", "--questions", "3", "--format", "json"])
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert list(report["variants"]) == ["off", "auto"]
    assert {name: task["questions"] for name, task in report["tasks"].items()} == {"colour": 2, "count": 1}


def test_text_goes_to_stderr(common, task_file, capsys):
    assert main([*common(), "--tasks", str(task_file), "--variant", MERGING, "-q"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    rows = [line.split()[0] for line in err.splitlines() if line]
    assert rows[1:6] == ["6", "off", "merging", "accuracy", "mine"]


def test_limit_draws_by_seed(evaluate, task_file, tmp_path):
    def ids(seed):
        path = tmp_path / f"{seed}.jsonl"
        code, report, _ = evaluate(
            "--tasks", task_file, "--limit", 3, "--preset", "off", "--seed", seed, "-o", path
        )
        assert (code, report["all"]["questions"]) == (0, 3)
        return [json.loads(line)["id"] for line in path.read_text().splitlines()[1:]]

    assert len({tuple(sorted(ids(seed))) for seed in range(4)}) > 1


def test_a_split_has_its_own_questions(evaluate, tmp_path):
    def asked(*split):
        path = tmp_path / f"{len(split)}{split[-1:]}.jsonl"
        flags = ["--tasks", "world:colour", "--questions", 2, "--preset", "off", "-o", path]
        assert evaluate(*flags, *split)[0] == 0
        return [json.loads(line)["id"] for line in path.read_text().splitlines()[1:]]

    assert asked() == ["colour/heldout/0", "colour/heldout/1"]
    assert asked("--split", "validation") == ["colour/validation/0", "colour/validation/1"]
    code, report, err = evaluate("--tasks", "world", "--split", "test", "--preset", "off")
    assert (code, report) == (2, None)
    assert err == "illava: error: unknown split 'test': use train, validation, heldout\n"


def test_a_failed_question_is_exit_3(evaluate, task_file):
    (task_file.parent / "2.png").write_bytes(b"no picture")
    code, report, err = evaluate("--tasks", task_file, "--variant", MERGING)
    assert code == 3
    (failure,) = report["failed"]
    assert failure["id"] == "mine:3"
    assert report["all"]["variants"]["off"]["answered"] == 5
    assert "illava: mine:3: " in err
    assert err.splitlines()[-1] == "illava: 1 of 6 questions failed"


def test_failed_questions_are_asked_again(evaluate, task_file, tmp_path):
    out, whole = tmp_path / "out.jsonl", (task_file.parent / "2.png").read_bytes()
    (task_file.parent / "2.png").write_bytes(b"no picture")
    assert evaluate("--tasks", task_file, "--variant", MERGING, "-o", out)[0] == 3
    (task_file.parent / "2.png").write_bytes(whole)
    before = len(out.read_text().splitlines())
    code, report, _ = evaluate("--tasks", task_file, "--variant", MERGING, "-o", out)
    assert (code, report["failed"]) == (0, [])
    assert len(out.read_text().splitlines()) == before + 2


def test_another_configuration_is_refused(evaluate, task_file, tmp_path):
    out = tmp_path / "out.jsonl"
    arguments = ["--tasks", task_file, "--preset", "off", "-o", out]
    assert evaluate(*arguments)[0] == 0
    code, report, err = evaluate(*arguments, "--max-tiles", 1)
    assert (code, report) == (2, None)
    assert "media.max_tiles not set there, 1 here" in err
    assert len(err.splitlines()) == 1


def wait_for_lines(path, count, process):
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=["kill", "ctrl-c", "term"]
)
def test_it_goes_on_after_a_stop(how, start, evaluate, task_file, tmp_path):
    out = tmp_path / "out.jsonl"
    lines = task_file.read_text().splitlines()
    task_file.write_text("".join(line.replace("Number", f"{n}") + "\n" for n in range(200) for line in lines))
    arguments = ["--tasks", task_file, "--variant", MERGING, "--batch-size", 1, "-o", out]
    with start(*arguments) as process:
        wait_for_lines(out, 8, process)
        process.send_signal(how)
        _, err = process.communicate()
    assert process.returncode == (-how if how == signal.SIGKILL else 128 + how)
    if how != signal.SIGKILL:
        assert err.splitlines() == [f"illava: stopped; the answers so far are in {out}: run again to go on"]
        assert out.read_bytes().endswith(b"\n")
    before = out.read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    out.write_bytes(whole + b'{"key": ["mine:')  # as a kill in the middle of a write would leave it
    limited = task_file.with_name("mine.jsonl")
    limited.write_text("".join(f"{line}\n" for line in limited.read_text().splitlines()[:12]))
    code, report, _ = evaluate(*arguments)
    assert (code, report["all"]["questions"], report["failed"]) == (0, 12, [])
    assert out.read_bytes().startswith(whole)
    keys = [tuple(json.loads(line)["key"]) for line in out.read_bytes().splitlines()[2:]]
    assert len(keys) == len(set(keys))


def test_ctrl_c_shows_what_no_file_keeps(evaluate, stop_in, task_file):
    stop_in(2)
    code, report, err = evaluate("--tasks", task_file, "--variant", MERGING)
    assert (code, report["all"]["questions"]) == (130, 3)
    assert "illava: stopped after 3 of 6 questions" in err.splitlines()


def test_sweep(evaluate, task_file, tmp_path):
    grid = ["--vision-keep", "0.5", "--vision-layers", "1-3", "--vision-layers", "5-8", "--llm-keep", "2/3"]
    code, report, err = evaluate("--tasks", task_file, "--sweep", *grid, "--set", "llm.queries=visual")
    assert code == 0
    name = "tower 0.5 at 1-3, LLM 0.67 at 2"
    assert list(report["variants"]) == ["off", name]
    reduction = report["variants"][name]["reduction"]
    assert reduction["vision"]["image"]["r"] == [6, 6, 6]
    assert reduction["llm"]["image"]["queries"] == "visual"
    assert [point["variant"] for point in report["sweep"]["points"]] == ["off", name]
    (skipped,) = report["sweep"]["skipped"]
    assert "7 is out of range" in skipped["why"]
    assert f"left out: {skipped['variant']} (vision.layers: " in err


def test_a_sweep_of_qwen(evaluate, task_file):
    grid = ["--vision-keep", "0.5", "--vision-layers", "1,2", "--llm-keep", "0.5", "--preset", "qwen2-vl"]
    code, report, _ = evaluate("--tasks", task_file, "--sweep", *grid, family="qwen2_vl")
    assert code == 0
    stages = report["all"]["variants"]["tower 0.5 at 1,2, LLM 0.5 at 2"]["visual_tokens"]
    assert stages["llm_kept"] < stages["llm_in"] < stages["patches"] / 4


@pytest.mark.needs("matplotlib")
def test_plot(evaluate, task_file, tmp_path, monkeypatch):
    drawn, save = [], plot.save
    monkeypatch.setattr(plot, "save", lambda figure, path: (drawn.append(figure), save(figure, path)))
    path = tmp_path / "sweep.png"
    code, report, err = evaluate("--tasks", task_file, "--sweep", "--llm-keep", "0.5", "--plot", path)
    assert code == 0, err
    assert path.read_bytes().startswith(b"\x89PNG")
    found = report["all"]["variants"]
    (figure,) = drawn
    for axes in figure.axes:
        off, *merged = axes.containers
        assert not off.has_yerr  # compared with itself
        assert [one.get_label() for one in merged] == [name for name in found if name != "off"]
        for one in merged:
            (bar,) = one.lines[2]
            low, high = bar.get_segments()[0][:, 1]
            change = found[one.get_label()]["difference"]
            assert high - low == pytest.approx(100 * (change["high"] - change["low"]))
        bottom, top = axes.get_ylim()
        assert top - bottom >= 100  # of six questions one is seventeen points


def test_plot_without_matplotlib_is_one_line(evaluate, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, report, err = evaluate("--sweep", "--plot", tmp_path / "x.png")
    assert (code, report) == (1, None)
    assert "pip install 'illava[plot]'" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tasks", "nowhere.jsonl"], "cannot read the task file nowhere.jsonl"),
        (["--tasks", "world:color"], "did you mean 'colour'?"),
        (["--preset", "papr"], "did you mean 'paper'"),
        (["--variant", "x: preset=papr"], "did you mean 'paper'"),
        (["--variant", "x:"], "expected NAME: key=value"),
        (["--preset", "paper"], "variant 'paper': vision"),
        (["--preset", "off", "--set", "generation.temperature=1"], "leave generation.temperature at 0"),
        (["--vision-keep", "0.5"], "are for --sweep: add it"),
        (["--sweep", "--vision-keep", "half"], "--vision-keep half: expected a share"),
        (["--sweep", "--llm-layers", "3,x"], "--llm-layers 3,x: expected layers"),
        (["--sweep", "--llm-layers", "77"], "the model refuses all schedules of the sweep: llm.layers: 77"),
        (["--sweep", "--variant", "x: llm.keep=1"], "makes its own variants"),
        (["--plot", "x.png"], "give both"),
        (["--limit", "0"], "--limit"),
        (["--batch-size", "0"], "--batch-size"),
        (["--format", "xml"], "expected text or json"),
        (["--temperature", "1"], "No such option"),
        (["--save", "x.json", "--markdown", "x.json"], "given for two results"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_bad_flags_end_with_2(arguments, said, evaluate):
    code, report, err = evaluate(*arguments)
    assert (code, report) == (2, None)
    assert said in err
    assert len(err.splitlines()) == 1 or "left out" in err


def test_a_broken_task_file_names_the_line(start, task_file):
    task_file.write_text(task_file.read_text() + '{"image": "x.png"\n')
    with start("--tasks", task_file) as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err.startswith(f"illava: error: {task_file}, line 7: not valid JSON")
    assert err.count("\n") == 1


def test_a_folder_that_is_not_there(evaluate, tmp_path):
    code, _, err = evaluate("-o", tmp_path / "no" / "out.jsonl")
    assert code == 1
    assert "does not exist" in err
