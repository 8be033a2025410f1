"""The container and the unit of scripts/examples/serve: without Docker, their steps one by one."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from tests.processes import ROOT, run
from tests.serve.flags import parsed
from tests.serve.real_server import PROGRAM, starting

FOLDER = ROOT / "scripts" / "examples" / "serve"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ASKING = {"messages": [{"role": "user", "content": "What shape is it?"}]}


def steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines) if name]


def of(name: str) -> list[str]:
    return [rest for found, rest in steps() if found == name]


def unit() -> dict[str, str]:
    """The settings of the systemd unit."""
    text = (FOLDER / "illava.service").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (line.partition("=") for line in text.splitlines() if re.match(r"[A-Za-z]+=", line))
    return {name: value for name, _, value in lines}


def extras(command: str) -> set[str]:
    return {name for found in re.findall(r"\[([a-z,]+)\]", command) for name in found.split(",")}


# --- the container ----------------------------------------------------------------------------------


def test_the_image_is_built_of_what_is_there_and_let_in():
    ignored = [line for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line]
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    sources = [name for rest in of("COPY") if "--from" not in rest for name in rest.split()[:-1]]
    assert set(sources) == let_in
    for name in sources:
        assert (ROOT / name).exists(), name


def test_its_shell_commands_are_shell_and_its_extras_exist():
    assert of("RUN")
    for command in of("RUN"):
        assert run(["sh", "-n", "-c", command]).returncode == 0, command
        assert extras(command) <= set(PROJECT["optional-dependencies"])
    assert {"serve", "structured"} <= {name for command in of("RUN") for name in extras(command)}
    pinned = run(["sh", "-c", "grep '^torch==' constraints.txt"], cwd=ROOT)
    assert re.fullmatch(r"torch==[\d.]+\n", pinned.stdout)


def test_what_is_copied_makes_a_whole_package(tmp_path):
    """The step that installs it, but for the packages that it needs."""
    for rest in of("COPY"):
        *sources, target = rest.split()
        if sources[0].startswith("--from"):
            continue
        for name in sources:
            place = tmp_path / target if (ROOT / name).is_dir() else tmp_path / target / name
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, place)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "made", "."]
    done = run(build, cwd=tmp_path)
    if "setuptools" in done.stderr and "No module" in done.stderr:
        pytest.skip("needs setuptools: pip install 'setuptools>=77'")
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "made").glob("illava-*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    for wanted in ("serve/page/index.html", "assets/tiny/model.safetensors", "configs/models/tiny.yaml"):
        assert any(fnmatch(name, f"illava_cli/{wanted}") for name in files), wanted


def test_it_runs_as_nobody_special_and_ends_as_the_server_wants():
    assert of("USER") == ["illava"]
    assert of("STOPSIGNAL") == ["SIGTERM"]
    assert of("VOLUME") == ["/models"]
    last = [name for name, _ in steps()].index("USER")
    assert "RUN" not in [name for name, _ in steps()[last:]]


def test_what_it_starts_serves_whoever_has_a_key_of_the_file(tmp_path):
    (start,), (more,) = of("ENTRYPOINT"), of("CMD")
    program, command, *arguments = json.loads(start)
    assert (program, command) == ("illava", "serve")
    assert parsed([*arguments, *json.loads(more)])["host"] == "0.0.0.0"
    keys = tmp_path / "keys"
    keys.write_text("first-key\nsecond-key\n")
    keys.chmod(0o600)
    there = {"/run/secrets/keys": str(keys), "8000": "0", "0.0.0.0": "127.0.0.1"}
    with starting(*(there.get(one, one) for one in arguments)) as server:
        server.wait_until_ready()
        assert server.post(json=ASKING).status_code == 401
        authorization = {"Authorization": "Bearer second-key"}
        assert server.post(json=ASKING, headers=authorization).status_code == 200
        # the health check, which has no key
        (check,) = of("HEALTHCHECK")
        python, *rest = json.loads(check.partition("CMD ")[2])
        assert python == "python"
        checking = [sys.executable, *(one.replace(":8000", f":{server.port}") for one in rest)]
        assert run(checking).returncode == 0
        assert server.stop() == 0
        assert run(checking).returncode != 0


def test_compose_waits_longer_than_the_server_drains():
    (service,) = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"].values()
    (start,) = of("ENTRYPOINT")
    options = parsed([*json.loads(start)[2:], *service["command"]])
    assert int(service["stop_grace_period"].removesuffix("s")) > options["drain_timeout"]
    build = service["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert ROOT / build["dockerfile"] == FOLDER / "Dockerfile"


# --- the unit -----------------------------------------------------------------------------------------


def test_the_unit_starts_the_program_and_waits_for_its_end():
    settings = unit()
    program, command, *arguments = shlex.split(settings["ExecStart"])
    assert Path(program).name == "illava"
    assert command == "serve"
    options = parsed(arguments)
    assert int(settings["TimeoutStopSec"]) > options["drain_timeout"]
    name, _, _ = settings["LoadCredential"].partition(":")
    assert str(options["api_key_file"]) == f"${{CREDENTIALS_DIRECTORY}}/{name}"
    assert settings["KillSignal"] == "SIGTERM"
    wanted = {"DynamicUser": "yes", "ProtectSystem": "strict", "PrivateTmp": "yes", "NoNewPrivileges": "yes"}
    assert wanted.items() <= settings.items()


def test_systemd_finds_no_fault_in_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    there = (FOLDER / "illava.service").read_text(encoding="utf-8")
    path = tmp_path / "illava.service"
    path.write_text(there.replace("/opt/illava/bin/illava", str(PROGRAM)))
    done = run(["systemd-analyze", "verify", "--man=no", str(path)], env=os.environ)
    found = [line for line in done.stderr.splitlines() if "illava" in line]
    assert (found, done.returncode) == ([], 0), done.stderr
