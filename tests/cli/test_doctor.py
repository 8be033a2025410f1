"""`illava doctor`."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import tomllib

import pytest
import torch
from packaging.requirements import Requirement

from illava_cli.cli import doctor
from illava_cli.config import PACKAGE


def test_report(illava):
    done = illava("doctor")
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert done.stdout.endswith("ready\n")
    assert "torch " in done.stdout


def test_json(main):
    code, out, _ = main("doctor", "--format", "json")
    report = json.loads(out)
    assert code == 0
    assert report["ok"] is True
    assert {package["name"] for package in report["packages"]} == set(doctor.REQUIRED) | set(doctor.OPTIONAL)
    assert {"sdpa", "eager"} <= set(report["attention"])


@pytest.mark.parametrize(
    ("capabilities", "line"),
    [
        ({"avx2": True, "avx512_bf16": True}, "bfloat16: yes; float16: no, float32 is faster"),
        ({"avx2": True}, "bfloat16: no, float32 is faster; float16: no, float32 is faster"),
    ],
)
def test_the_processor_s_half_precision(main, capabilities, line, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert f"processor       {line}\n" in main("doctor")[1]
    report = json.loads(main("doctor", "--format", "json")[1])
    assert report["processor"] == {"bfloat16": "avx512_bf16" in capabilities, "float16": False}


@pytest.fixture
def damage(monkeypatch):
    """Makes a package missing, or its import fail."""
    version, load = importlib.metadata.version, importlib.import_module

    def apply(missing: tuple[str, ...] = (), broken: tuple[str, ...] = ()) -> None:
        def no_version(name):
            if name in missing:
                raise importlib.metadata.PackageNotFoundError(name)
            return version(name)

        def no_import(name, *rest):
            if name in broken:
                raise RuntimeError("operator torchvision::nms\ndoes not exist")
            return load(name, *rest)

        monkeypatch.setattr(importlib.metadata, "version", no_version)
        monkeypatch.setattr(importlib, "import_module", no_import)

    return apply


def test_a_broken_optional_package_is_reported(main, damage):
    damage(broken=("accelerate",))
    code, out, _ = main("doctor")
    assert code == 0
    assert "broken: RuntimeError: operator torchvision::nms does not exist" in out
    assert "pip install --force-reinstall accelerate" in out


def test_a_missing_optional_package_comes_with_its_command(main, damage):
    damage(missing=("prompt_toolkit",))
    code, out, _ = main("doctor")
    assert code == 0
    assert "pip install 'illava[chat]'" in out


@pytest.mark.parametrize("name", ["torch", "pillow"])
def test_without_a_required_package_the_exit_code_is_1(main, damage, name):
    damage(missing=(name,))
    code, out, err = main("doctor")
    assert (code, err) == (1, "")
    assert f"pip install {name}" in out
    assert out.endswith("not ready: something required is missing\n")


def test_one_video_decoder_is_enough(main, damage):
    damage(missing=("decord",))
    assert main("doctor")[0] == 0
    damage(missing=("decord", "av"))
    assert main("doctor")[0] == 1


@pytest.mark.parametrize(
    ("version", "status", "works"),
    [
        ("5.16.1", "needs >=5.17,<5.25", False),
        ("5.17.0", "ok", True),
        ("5.24.3", "ok", True),
        ("5.25.0", "untested", True),
        ("6.0.0.dev1", "untested", True),
    ],
)
def test_what_lies_outside_the_tested_releases_is_marked(monkeypatch, version, status, works):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["transformers>=5.17,<5.25"])
    package = doctor.check("transformers", required=True)
    assert (package.status, package.works) == (status, works)
    assert package.tested == ">=5.17,<5.25"
    assert package.fix == ("" if status == "ok" else "pip install 'transformers>=5.17,<5.25'")


def test_a_plain_checkout_knows_what_was_tested(monkeypatch):
    def no_metadata(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", no_metadata)
    assert "5.17" in str(doctor.tested_releases("transformers"))
    assert str(doctor.tested_releases("ray")).startswith("<")


def test_the_commands_name_extras_that_there_are():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, (_, _, target) in doctor.OPTIONAL.items():
        if found := re.fullmatch(r"'illava\[(.+)\]'", target):
            extra = project["optional-dependencies"][found[1]]
            assert name.lower() in {Requirement(text).name.lower() for text in extra}


def test_several_packages_of_one_extra_are_one_command(main, damage):
    damage(missing=("fastapi", "uvicorn"))
    _, out, _ = main("doctor")
    assert out.count("pip install 'illava[serve]'") == 1


def test_the_extras_of_the_server_are_reported():
    told = {target.strip("'") for _, _, target in doctor.OPTIONAL.values()}
    assert {"illava[serve]", "illava[structured]", "illava[llm]"} <= told


def test_the_report_names_what_was_tested(main):
    _, out, _ = main("doctor")
    assert "TESTED" in out
    assert doctor.check("transformers", required=True).tested in out
