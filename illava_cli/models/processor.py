"""Whether this processor multiplies in half precision, or only through a detour.

On two cores of an AMD EPYC a product of a SigLIP layer, (729, 1152) x (1152, 4304), took 90 ms in float32 and
41 ms in bfloat16; held to AVX-512 without bfloat16 (`ONEDNN_MAX_CPU_ISA`) 136 and 246, held to AVX2 124 and
474. float16, for which it has no instructions, took 374.
"""

from __future__ import annotations

import re
from pathlib import Path

# as torch and as Linux call them, on x86 and on ARM
INSTRUCTIONS = {
    "bfloat16": {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "sve_bf16", "svebf16"},
    "float16": {"avx512_fp16", "amx_fp16", "avx_ne_convert", "fp16_arith", "asimdhp"},
}
CPUINFO = Path("/proc/cpuinfo")


def abilities() -> set[str]:
    """What the processor says it can do; nothing where it cannot be asked."""
    import torch

    try:
        found = {name for name, able in torch.cpu.get_capabilities().items() if able is True}
    except (AttributeError, RuntimeError):  # an older torch
        found = set()
    if not found:
        try:
            lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", CPUINFO.read_text(), re.MULTILINE)
        except OSError:
            return set()
        found = set(" ".join(lines).split())
    return found


def multiplies(dtype: str) -> bool | None:
    """Whether the processor has instructions for products in `bfloat16` or `float16`; None: not known."""
    able = abilities()
    return bool(able & INSTRUCTIONS[dtype]) if able else None


def slow_dtype(dtype: str) -> str | None:
    """One line for a person whose model computes in a `dtype` that the processor has no instructions for."""
    if dtype not in INSTRUCTIONS or multiplies(dtype) is not False:
        return None
    return (
        f"this processor has no instructions for {dtype}: expect several times the time of float32; "
        "give --dtype float32 if there is memory for it"
    )
