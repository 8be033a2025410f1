"""A search that was stopped goes on where it was, and says how far it is."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from illava_cli.cli.app import main
from illava_cli.tuning.search import frontier
from illava_cli.tuning.target import Figures
from tests.conftest import picture
from tests.processes import ROOT, Process

SEARCH = ["--target", "agreement=10%", "--schedules", "4", "--max-tokens", "2", "--batch-size", "1"]


@pytest.fixture
def arguments(checkpoints, tmp_path):
    """Of a search over marked questions, and over pictures beside them."""
    (tmp_path / "more").mkdir()
    lines = []
    for number in range(6):
        picture(84 + 10 * number, 90, number).save(tmp_path / f"{number}.png")
        picture(90, 84 + 10 * number, number).save(tmp_path / "more" / f"{number}.png")
        for asked in ("What?", "How many?"):
            lines.append(
                {"id": f"{number} {asked}", "image": f"{number}.png", "prompt": asked, "answer": "1"}
            )
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = ["-m", checkpoints("llava_onevision"), "--device", "cpu", *SEARCH]
    return [*found, "--tasks", str(tmp_path / "mine.jsonl"), "-o", str(tmp_path / "found.yaml")]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_a_search_goes_on_after_a_stop(how, arguments, tmp_path, capsys):
    answers = tmp_path / "found.answers.jsonl"
    command = [sys.executable, "-m", "illava_cli.cli.app", "tune", *arguments]
    with Process(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not answers.exists() or answers.read_bytes().count(b"\n") < 20:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(how)
        _, err = process.communicate()
    assert process.returncode == (-how if how == signal.SIGKILL else 128 + how)
    said = f"illava: stopped; the answers so far are in {answers}: run again to go on"
    assert (said in err.splitlines()) == (how != signal.SIGKILL)
    assert not (tmp_path / "found.yaml").exists()
    before = answers.read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    assert main(["tune", *arguments]) == 0
    assert answers.read_bytes().startswith(whole)
    keys = [
        tuple(record["key"])
        for line in answers.read_text().splitlines()
        if "key" in (record := json.loads(line))
    ]
    assert len(keys) == len(set(keys)) > 20
    capsys.readouterr()


def test_questions_and_pictures_are_searched_together(arguments, tmp_path, capsys):
    more = ["--images", str(tmp_path / "more"), "--format", "json"]
    assert main(["tune", *arguments, *more]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)["kinds"]["image"]
    assert found["search_questions"] + found["check_questions"] == 12 + 4 * 6
    rounds = re.findall(r"^illava: images, (\d+) questions: (.*) % same$", err, re.MULTILINE)
    assert [int(count) for count, _ in rounds] == [one["questions"] for one in found["rounds"]]


def test_a_loss_of_accuracy_is_bound(arguments, tmp_path, capsys):
    arguments[arguments.index("agreement=10%")] = "accuracy=-100"
    assert main(["tune", *arguments, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["kinds"]["image"]
    (chosen,) = [row for row in found["finalists"] if row["chosen"]]
    assert found["kept"]
    assert chosen["check"]["difference"]["value"] >= -1
    assert chosen["speed"] == max(row["speed"] for row in found["finalists"] if row["search"])
    text = (tmp_path / "found.yaml").read_text()
    for told in ("accuracy=-100", found["questions_hash"], f"{chosen['speed']:.2f}x"):
        assert told in text


def test_the_frontier_has_what_nothing_beats():
    known = {
        "slow": Figures(1.2, (0.99, 1.0), 0.1, None),
        "fast": Figures(3.0, (0.5, 0.6), 0.9, None),
        "beaten": Figures(1.1, (0.9, 0.95), 0.2, None),
    }
    assert frontier(known) == "1.20x 99.0 % same, 3.00x 50.0 % same"
