"""What KV caches may hold is counted from their own bytes and the memory that is free."""

import pytest

from illava_cli.engine import room


@pytest.mark.parametrize("family", ["llava_onevision", "llava_next", "qwen2_vl"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_token_takes_what_its_keys_and_values_do(family, dtype, open_session):
    session = open_session(family, "preset=off", f"model.dtype={dtype}", "generation.max_tokens=2")
    chat = session.chat()
    chat.ask("What?")
    cache = chat.past.cache
    tokens = cache.keys[0].shape[2]
    assert all(keys.shape[2] == tokens for keys in cache.keys)
    assert chat.past.nbytes == tokens * room.bytes_per_token(session.family)


def test_a_container_may_leave_less_than_the_machine_has(monkeypatch, tmp_path, open_session):
    family = open_session("qwen2_vl", "preset=off").family
    monkeypatch.setattr(room, "_of_machine", lambda: 10**9)
    monkeypatch.setattr(room, "CGROUP", tmp_path)
    monkeypatch.setattr(room, "OWN_GROUP", tmp_path / "own")
    whole = room.cache_tokens(family)
    assert whole == int(0.4 * 10**9 / room.bytes_per_token(family))
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert room.cache_tokens(family) == whole
    (tmp_path / "memory.max").write_text("50001000\n")
    assert room.cache_tokens(family) == int(0.4 * 50_000_000 / room.bytes_per_token(family))
    (tmp_path / "own").write_text("1:x:/other\n0::/system.slice/illava.service\n")
    unit = tmp_path / "system.slice" / "illava.service"
    unit.mkdir(parents=True)
    (unit / "memory.current").write_text("500\n")
    (unit / "memory.max").write_text("40000500\n")
    assert room.cache_tokens(family) == int(0.4 * 40_000_000 / room.bytes_per_token(family))
    (unit / "memory.max").unlink()
    monkeypatch.setattr(room, "_of_machine", lambda: None)
    (tmp_path / "memory.max").unlink()
    assert room.cache_tokens(family) is None
