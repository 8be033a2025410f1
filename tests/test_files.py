"""Files are short enough to be read as one idea."""

import tomllib

import pytest

from tests.test_architecture import PACKAGE

ROOT = PACKAGE.parent
MOST = 350  # lines


def long_files(folder: str) -> set[str]:
    lines = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / folder).rglob("*.py")
    }
    assert lines
    return {path.relative_to(ROOT).as_posix() for path, count in lines.items() if count > MOST}


@pytest.mark.parametrize("folder", ["illava_cli", "scripts", "tests"])
def test_no_file_is_longer_than_it_may_be(folder):
    assert not long_files(folder), "split these by idea"


def test_every_package_is_installed():
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(found) == there | {"illava_cli.configs"}
