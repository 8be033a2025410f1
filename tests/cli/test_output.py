"""Writing results: whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from illava_cli.cli.output import write_file
from illava_cli.errors import OutputError


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    target = tmp_path / "out.json"
    target.write_text("older")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_file(target, "new")
    assert target.read_text() == "older"
    assert list(tmp_path.iterdir()) == [target]


def test_mode_and_links_survive(tmp_path):
    target, link = tmp_path / "out", tmp_path / "link"
    target.write_text("older")
    target.chmod(0o640)
    link.symlink_to(target)
    write_file(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_new_file_has_the_usual_mode(tmp_path):
    usual, ours = tmp_path / "usual", tmp_path / "ours"
    usual.touch()
    write_file(ours, "x")
    assert ours.stat().st_mode == usual.stat().st_mode


def test_what_is_no_utf8_is_escaped(tmp_path):
    write_file(tmp_path / "x", '"\udcff"')
    assert (tmp_path / "x").read_text() == '"\\udcff"'


@pytest.mark.needs("/dev/full")
def test_a_device_is_written_to_and_never_replaced():
    with pytest.raises(OutputError, match="No space left on device"):
        write_file(Path("/dev/full"), "x")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        write_file(tmp_path, "x")
