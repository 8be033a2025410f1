"""What is said of half precision on a processor that has no instructions for it."""

import pytest
import torch

from illava_cli.config import resolve
from illava_cli.engine.opening import load
from illava_cli.models import processor

X86 = {"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False, "l2_cache_size": 1 << 20}
ARM = {"neon": True, "bf16": False, "fp16_arith": True, "sve_max_length": 16}


@pytest.fixture
def able(monkeypatch, tmp_path):
    """Makes the processor another one: what torch says of it, and what Linux does."""

    def become(torch_says, linux_says=None):
        def capabilities():
            if torch_says is None:
                raise AttributeError("an older torch has no such function")
            return torch_says

        monkeypatch.setattr(torch.cpu, "get_capabilities", capabilities, raising=False)
        path = tmp_path / "cpuinfo"
        if linux_says is not None:
            path.write_text(linux_says)
        monkeypatch.setattr(processor, "CPUINFO", path)

    return become


@pytest.mark.parametrize(
    ("torch_says", "linux_says", "bfloat16", "float16"),
    [
        (X86, None, False, False),
        (X86 | {"avx512_bf16": True}, None, True, False),
        (X86 | {"amx_bf16": True, "amx_fp16": True}, None, True, True),
        (ARM, None, False, True),
        (ARM | {"bf16": True}, None, True, True),
        (None, "model name\t: Old\nflags\t\t: fpu sse avx2\n", False, False),
        (None, "flags\t\t: fpu avx512_bf16 avx512_fp16\nflags\t\t: fpu\n", True, True),
        (None, "Features\t: fp asimd asimdhp svebf16\n", True, True),
        (None, None, None, None),
    ],
)
def test_what_a_processor_is_able_to(torch_says, linux_says, bfloat16, float16, able):
    able(torch_says, linux_says)
    assert (processor.multiplies("bfloat16"), processor.multiplies("float16")) == (bfloat16, float16)


def test_torch_is_asked_by_its_own_name():
    """Of this very machine, that the function's name does not go stale unseen."""
    if not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this torch cannot be asked")
    assert {"architecture"} < set(torch.cpu.get_capabilities())
    assert processor.abilities()


@pytest.mark.parametrize(
    ("dtype", "said"), [("bfloat16", True), ("float16", True), ("auto", False), ("float32", False)]
)
def test_loading_says_so_once(dtype, said, able, checkpoints):
    able(X86)
    notes = []
    config = resolve(
        checkpoints("qwen2_vl"), settings=["model.device=cpu", f"model.dtype={dtype}"], environ={}
    )
    load(config=config, on_note=notes.append)
    found = [note for note in notes if "no instructions" in note]
    assert len(found) == said
    assert all(dtype in note and "--dtype float32" in note and "\n" not in note for note in found)


def test_loading_says_nothing_where_it_is_fast_or_not_known(able, checkpoints):
    settings = ["model.device=cpu", "model.dtype=bfloat16"]
    for torch_says in (X86 | {"avx512_bf16": True}, None):
        able(torch_says)
        notes = []
        load(config=resolve(checkpoints("qwen2_vl"), settings=settings, environ={}), on_note=notes.append)
        assert not any("instructions" in note for note in notes)
