"""The program as a whole: help, version, exit codes, and what reaches stdout and stderr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from illava_cli.cli.commands import COMMANDS, Announced
from tests.cli.conftest import FAKE, ILLAVA, MODEL, ROOT
from tests.processes import Process, run

GROUPS = ("models", "config")
PAGES = [
    [],
    *([command] for command in COMMANDS),
    ["bench", "serve"],
    ["models", "list"],
    ["models", "show"],
    *(["config", name] for name in ("show", "validate", "presets", "schema")),
]


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_help_pages_fit_80_columns_and_carry_no_ansi(main, page):
    code, out, err = main(*page, "--help")
    assert code == 0
    assert err == ""
    assert out.startswith(f"Usage: {' '.join(['illava', *page])}")
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert "..." not in out.replace("balanced, ...", "").replace("[ARGS]...", "").replace(
        "{FILE}...", ""
    ).replace("{INPUT}...", "").replace("FILE...", "")


LIGHT = """
import sys
from illava_cli.cli.app import main
code = main(sys.argv[1:])
heavy = {"torch", "transformers", "numpy", "PIL", "rich", "yaml", "pydantic"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]], ids=" ".join)
def test_help_and_version_import_nothing_heavy(arguments):
    done = run([sys.executable, "-c", LIGHT, *arguments], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("illava " if arguments == ["--version"] else "Usage: illava ")
    assert arguments == ["--version"] or all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("illava ", list(COMMANDS)),
        ("illava --v", ["--version"]),
        ("illava --version co", ["compare", "config"]),
        ("illava models s", ["show"]),
        *((f"illava {command} --deb", ["--debug"]) for command in COMMANDS if command not in GROUPS),
        ("illava bench ser", ["serve"]),
        ("illava bench serve --conc", ["--concurrency"]),
        ("illava config show --top-", ["--top-p", "--top-k"]),
        ("illava run --preset qwen2-", ["qwen2-vl-2b", "qwen2-vl"]),
        ("illava run --max-tokens x -m tin", ["tiny-qwen", "tiny"]),
    ],
)
def test_completion_imports_nothing_heavy(words, offered):
    """Of names: neither those of commands nor those of options need a model of pydantic's."""
    asked = {"_ILLAVA_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = run([sys.executable, "-c", LIGHT], cwd=ROOT, env=os.environ | asked)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == offered


@pytest.mark.parametrize(("words", "code"), [("illava run --to", 0), ("illava run --image ", 1)])
def test_a_shell_learns_from_the_code_whether_there_are_completions(words, code, illava):
    asked = {"_ILLAVA_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "is-args"}
    done = illava(env=os.environ | asked | {"_TYPER_COMPLETE_ARGS": words})
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_announced_is_what_a_commands_own_help_says(name):
    announced = Announced(name, *COMMANDS[name])
    assert announced.get_short_help_str(60) == announced.command().get_short_help_str(60)


def test_version(illava):
    from illava_cli import __version__

    done = illava("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"illava {__version__}\n", "")


@pytest.mark.parametrize("group", [[], ["models"], ["config"]], ids=["illava", "models", "config"])
def test_a_group_alone_shows_its_help_on_stderr(main, group):
    code, out, err = main(*group)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: illava")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["runn"], "'run'"),
        (["config", "shw"], "'show'"),
        (["run", "--promt", "x"], "--prompt"),
        (["run", "--image"], "--image"),
        (["run", "-p", "x", "--num-frames", "many"], "--num-frames"),
        (["run", "-p", "x", "--format", "xml"], "text or json"),
        (["run", "-p", "x", "-m", "qwen2-vl"], "'qwen2-vl-"),
        (["run", "-p", "x", *MODEL, "--preset", "papr"], "'paper'"),
        (["run", "-p", "x", *MODEL, "--dtype", "float8"], "bfloat16"),
        (["run", "-p", "x", *MODEL, "--set", "generation.max_token=1"], "'max_tokens'"),
        (["run", "-p", "x", *MODEL, "--set", "llm.keep"], "--set"),
        (["run", "-p", "x", *MODEL, "--num-frames", "2", "--fps", "1"], "exclude"),
        (["run", "-p", "x", *MODEL, "--max-tokens", "0"], "max_tokens"),
        (["run", *MODEL], "--prompt"),
        (["run", *MODEL, "-p", " "], "--prompt"),
        (["run", *MODEL, "-p", "-", "--image", "-"], "stdin"),
        (["run", *MODEL, "-p", "x", "--video", "-", "--image", "-"], "stdin"),
        (["chat", *MODEL, "--image", "-"], "stdin"),
    ],
    ids=" ".join,
)
def test_usage_errors_are_one_line_with_exit_2(main, sessions, arguments, expected):
    code, out, err = main(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("illava: error: ")
    assert err.count("\n") == 1
    assert expected in err
    assert not sessions  # found before a model was loaded


def test_a_bug_is_one_line_and_debug_shows_the_traceback(main):
    code, out, err = main("run", *MODEL, "-p", "crash")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == (
        "illava: internal error: ValueError: several lines (run again with --debug for the traceback)"
    )
    assert "Traceback" not in err


@pytest.mark.parametrize("where", ["before", "after", "variable"])
def test_debug(where):
    arguments = ["run", *MODEL, "-p", "crash"]
    arguments = {"before": ["--debug", *arguments], "after": [*arguments, "--debug"]}.get(where, arguments)
    environment = os.environ | ({"ILLAVA_DEBUG": "1"} if where == "variable" else {})
    done = run([*FAKE, *arguments], cwd=ROOT, env=environment)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == "illava: internal error: ValueError: several lines"


@pytest.mark.parametrize("command", [[*ILLAVA, "config", "schema"], [*FAKE, "run", *MODEL, "-p", "x"]])
def test_a_closed_pipe_is_quiet(command):
    read, write = os.pipe()
    os.close(read)
    done = run([*command, "--debug"], stdout=write, cwd=ROOT)
    os.close(write)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "downloading" not in line] == []


@pytest.mark.needs("/dev/full")
@pytest.mark.parametrize(
    "arguments", [[], ["--stream"], ["--format", "json"]], ids=["text", "stream", "json"]
)
def test_a_full_disk_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        done = run([*FAKE, "run", *MODEL, "-q", "-p", "x", *arguments], stdout=full, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr == "illava: error: cannot write to stdout: No space left on device\n"


@pytest.mark.parametrize("arguments", [["--version"], ["run", "--help"]], ids=" ".join)
@pytest.mark.needs("/dev/full")
def test_a_full_disk_under_help_is_one_line(illava, arguments):
    with open("/dev/full", "w") as full:
        done = run([*ILLAVA, *arguments], stdout=full, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_ctrl_c_stops_a_run_with_130():
    command = [*FAKE, "run", *MODEL, "-q", "--stream", "-p", "slow"]
    with Process(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout.read(5) == b"word "
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert err == b""
    assert out.endswith(b"\n")


def test_a_job_in_the_background_ignores_ctrl_c_and_ends_on_sigterm():
    """As a script starts it: with Ctrl-C, which is for what runs in the foreground, ignored."""
    command = [*FAKE, "run", *MODEL, "-q", "--stream", "-p", "slow"]
    with Process(["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command], stdout=-1, cwd=ROOT) as process:
        assert process.stdout.read(5) == b"word "
        process.send_signal(signal.SIGINT)
        assert process.stdout.read(20) == b"word word word word "
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate()
    assert (process.returncode, rest[-1:]) == (128 + signal.SIGTERM, b"\n")


def test_a_process_ends_with_mains_code_and_lets_others_end_first():
    """It takes no modules apart, but whoever waits for the end has his turn; what was printed is there."""
    code = (
        "import atexit, sys; from illava_cli.cli.app import program; "
        "sys.argv[1:] = ['config', 'show', '--preset', 'nonsense']; program(); "
        "atexit.register(print, 'my turn')"
    )
    done = run([sys.executable, "-c", code], cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "my turn\n")
    assert "nonsense" in done.stderr


@pytest.mark.parametrize("part", ["illava_cli.config", "typer", "illava_cli.cli.config_cmd"])
def test_ctrl_c_while_the_program_starts_is_no_traceback(part):
    code = f"""if True:
        import os, signal, sys

        class Interrupting:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name == {part!r}:
                    os.kill(os.getpid(), signal.SIGINT)

        sys.meta_path.insert(0, Interrupting)
        from illava_cli.__main__ import program

        sys.argv[1:] = ["config", "presets"]
        program()
    """
    done = run([sys.executable, "-c", code], cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_package_is_a_program():
    done = run([sys.executable, "-m", "illava_cli", "--version"], cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("illava ")
