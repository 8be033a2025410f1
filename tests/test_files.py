"""Files are short enough to be read as one idea."""

import pytest

from tests.test_architecture import PACKAGE

ROOT = PACKAGE.parent
MOST = 350  # lines
PENDING = {  # still to be split: take a name off this list with its split, add none
    "illava_cli/config.py",
    "illava_cli/engine/session.py",
    "illava_cli/models/family.py",
    "illava_cli/models/llava.py",
    "illava_cli/models/schedule.py",
}


def long_files(folder: str) -> set[str]:
    lines = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / folder).rglob("*.py")
    }
    assert lines
    return {path.relative_to(ROOT).as_posix() for path, count in lines.items() if count > MOST}


@pytest.mark.parametrize("folder", ["illava_cli", "scripts", "tests"])
def test_no_file_is_longer_than_it_may_be(folder):
    found, pending = long_files(folder), {name for name in PENDING if name.startswith(f"{folder}/")}
    assert not found - pending, "split these by idea"
    assert not pending - found, "these are short now: take them off PENDING"
