"""What is released, without building it: its version, its dependencies, what archives are looked into for."""

import io
import re
import tarfile
import tomllib
import zipfile

import check_dist
import pytest
import yaml
from packaging.requirements import Requirement

import illava_cli
from tests.processes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = {"pillow": "PIL", "pyyaml": "yaml"}  # imported by another name


def test_the_version_stands_in_one_place():
    assert "version" not in PROJECT["project"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "illava_cli.__version__"}
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == illava_cli.__version__
    assert f"({illava_cli.__version__})" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", [Requirement(text).name for text in PROJECT["project"]["dependencies"]])
def test_a_dependency_is_used_and_docs_install_says_why(name):
    module = MODULES.get(name, name)
    sources = "".join(path.read_text() for path in (ROOT / "illava_cli").rglob("*.py"))
    assert re.search(rf"^\s*(import|from) {module}\b", sources, re.MULTILINE)
    assert re.search(rf"^\|.*`{name}`.*\| .+ \|$", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE)


def test_the_sdist_takes_what_is_there():
    lines = (ROOT / "MANIFEST.in").read_text().splitlines()
    named = [name for line in lines if line.startswith(("include", "graft")) for name in line.split()[1:]]
    assert {"docs", "tests", "scripts", "configs", "constraints.txt"} <= set(named)
    for name in (*named, *check_dist.IN_SDIST):
        assert (ROOT / name).exists(), name


def archives(folder, extra=()):
    wheel, sdist = folder / "illava-1-py3-none-any.whl", folder / "illava-1.tar.gz"
    with zipfile.ZipFile(wheel, "w") as file:
        for name in (*check_dist.IN_WHEEL, "illava-1.dist-info/RECORD", *extra):
            file.writestr(name, "")
    with tarfile.open(sdist, "w:gz") as file:
        for name in (*check_dist.IN_SDIST, *extra):
            file.addfile(tarfile.TarInfo(f"illava-1/{name}"), io.BytesIO())
    return wheel, sdist


def test_good_archives_are_good(tmp_path):
    wheel, sdist = archives(tmp_path)
    assert check_dist.wheel_faults(wheel) == []
    assert check_dist.sdist_faults(sdist) == []


def test_clutter_strays_and_size_are_told(tmp_path, monkeypatch):
    wheel, sdist = archives(tmp_path, ("tests/x.py", "illava_cli/__pycache__/x.pyc"))
    assert "illava-1.tar.gz holds illava-1/illava_cli/__pycache__/x.pyc" in check_dist.sdist_faults(sdist)
    monkeypatch.setattr(check_dist, "MOST", 10)
    told = "\n".join(check_dist.wheel_faults(wheel))
    assert "installs tests" in told
    assert "holds illava_cli/__pycache__/x.pyc" in told
    assert "are the most" in told


def test_what_lacks_is_told(tmp_path):
    wheel = tmp_path / "illava-1-py3-none-any.whl"
    zipfile.ZipFile(wheel, "w").close()
    assert len(check_dist.wheel_faults(wheel)) == len(check_dist.IN_WHEEL)
