"""The same question, or the same settings, again."""

from __future__ import annotations

import json

from illava_cli.config import resolve
from tests.program_real.records import QUESTION, record_of


def test_the_same_question_again_is_the_same_answer(main):
    question = ["--image", "wide.png", "-p", QUESTION, "--format", "json", "--temperature", "1"]
    first, again = (record_of(main("qwen2_vl", *question, "--seed", "0")[1]) for _ in range(2))
    for name in ("text", "usage", "config_hash", "media"):
        assert first[name] == again[name]
    assert first["id"] != again["id"]
    other = json.loads(main("qwen2_vl", *question, "--seed", "1")[1])
    assert other["seed"] == 1
    assert other["config_hash"] != first["config_hash"]
    assert other["text"] != first["text"]


def test_the_printed_settings_are_the_same_run(main, checkpoints, folder, capfd):
    """`illava config show` prints a file that `-m` takes; it has the same hash."""
    from illava_cli.cli.app import main as program

    flags = ["-m", checkpoints("qwen2_vl"), "--preset", str(folder / "qwen2_vl.yaml"), "--max-tokens", "7"]
    assert program(["config", "show", *flags]) == 0
    shown = capfd.readouterr().out
    (folder / "shown.yaml").write_text(shown)
    digest = resolve(str(folder / "shown.yaml"), environ={}).hash()
    assert shown.startswith(f"# hash: {digest}\n")
