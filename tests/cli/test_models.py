"""`illava models`."""

from __future__ import annotations

import json

from illava_cli.cli.models import in_cache


def test_list(illava):
    done = illava("models", "list")
    assert done.returncode == 0
    assert "llava-hf/llava-onevision-qwen2-7b-ov-hf" in done.stdout
    assert "random:qwen2-vl-2b" in done.stdout


def test_list_json(main):
    code, out, _ = main("models", "list", "--format", "json")
    entries = {entry["name"]: entry for entry in json.loads(out)}
    assert code == 0
    assert entries["qwen2-vl-2b"]["id"] == "Qwen/Qwen2-VL-2B-Instruct"
    assert entries["random:qwen2-vl-toy"]["in_cache"] is None


def test_show(main, monkeypatch):
    monkeypatch.setenv("ILLAVA_MAX_TOKENS", "3")  # this is the model as shipped
    code, out, _ = main("models", "show", "random:qwen2-vl-2b", "--format", "json")
    shown = json.loads(out)
    assert code == 0
    assert shown["config"]["generation"]["max_tokens"] == 512
    assert shown["architecture"]["family"] == "qwen2_vl"
    code, out, _ = main("models", "show", "qwen2-vl-2b")
    assert (code, out.splitlines()[0]) == (0, "name: qwen2-vl-2b")
    assert "family: qwen2_vl" in out


def test_show_unknown(main):
    code, out, err = main("models", "show", "qwen2-vl-7")
    assert (code, out) == (2, "")
    assert "did you mean 'qwen2-vl-" in err


def test_a_checkpoint_is_here_when_every_shard_is(tmp_path, monkeypatch):
    import huggingface_hub

    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})
    )
    for name in ("one.safetensors", "tokenizer.json", "preprocessor_config.json"):
        (tmp_path / name).touch()
    path = tmp_path / "config.json"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(path))
    assert in_cache("a/b") is False
    path.touch()
    assert in_cache("a/b") is False
    (tmp_path / "two.safetensors").touch()
    assert in_cache("a/b") is True
