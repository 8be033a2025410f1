"""API keys: from files, compared all and in constant time, never shown."""

from __future__ import annotations

import logging
import os

import pytest

from illava_cli.errors import UsageError
from illava_cli.serve import keys as keys_module
from illava_cli.serve.keys import Keys, read_keys


def test_every_key_is_compared_whichever_fits(monkeypatch):
    compared = []
    compare = keys_module.hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(keys_module.hmac, "compare_digest", watched)
    keys = Keys(["a", "hunter" * 50, "ccc"])
    for given in (b"a", b"ccc", b"nothing like these", b""):
        keys.opens(given)
    assert compared == [(32, 32)] * 12
    assert "hunter" not in repr(keys) + str(vars(keys))


def test_keys_from_a_file(tmp_path, caplog):
    path = tmp_path / "keys"
    path.write_bytes(b"\xef\xbb\xbf# mine\none\r\n\n  two  \n#three\n")
    path.chmod(0o600)
    assert read_keys(path) == ["one", "two"]
    assert caplog.records == []
    path.chmod(0o640)
    with caplog.at_level(logging.WARNING):
        assert read_keys(path) == ["one", "two"]
    assert "others may read the keys in it" in caplog.text
    assert "one" not in caplog.text
    path.write_text("# nothing\n")
    for bad in (path, tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match=r"holds no key|cannot be read"):
            read_keys(bad)


@pytest.mark.parametrize("key", ["", "a b", "sch\xfcssel", "a\tb", "a\n"])
def test_what_is_no_key_is_not_shown(key):
    with pytest.raises(UsageError) as refused:
        Keys(["good", key])
    assert str(refused.value).startswith("an API key is empty or")


@pytest.mark.skipif(os.name != "posix", reason="has no such modes")
def test_a_pipe_of_keys_is_not_warned_of(tmp_path, caplog):
    read_end, write_end = os.pipe()
    os.write(write_end, b"one\n")
    os.close(write_end)
    assert read_keys(f"/dev/fd/{read_end}") == ["one"]
    os.close(read_end)
    assert caplog.records == []
