"""What is set outside does not reach the tests."""

import os
import time

from tests.environment import as_in_a_plain_terminal, clear


def test_a_process_has_one_thread_unless_more_are_asked_for():
    environ = {}
    clear(environ)
    assert environ["OMP_NUM_THREADS"] == "1"
    environ = {"OMP_NUM_THREADS": "4"}
    clear(environ)
    assert environ["OMP_NUM_THREADS"] == "4"


def test_settings_from_outside_are_gone():
    environ = {"ILLAVA_MODEL": "x", "HF_HUB_OFFLINE": "1", "TRITON_INTERPRET": "0", "PYTHONPATH": "/x"}
    environ |= {"GIT_DIR": "/x", "XDG_STATE_HOME": "/x", "RAY_ADDRESS": "x:1"}
    kept = {"HF_HOME": "/hub", "HF_TOKEN": "t", "OMP_NUM_THREADS": "1", "PATH": "/bin", "https_proxy": "x:1"}
    environ |= kept | {"no_proxy": "intranet"}
    clear(environ)
    assert environ == kept | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "no_proxy": "intranet,127.0.0.1,localhost",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def test_a_terminal_from_outside_is_gone_and_comes_back(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    before, mask = dict(os.environ), os.umask(0o077)
    try:
        with as_in_a_plain_terminal():
            assert not {"COLUMNS", "LC_ALL", "NO_COLOR", "TZ"} & os.environ.keys()
            (tmp_path / "file").touch()
        assert dict(os.environ) == before
        assert os.umask(mask) == 0o077
    finally:
        os.umask(mask)
        monkeypatch.undo()
        time.tzset()
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
