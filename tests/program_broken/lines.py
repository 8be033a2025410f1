"""How the program is asked on bad input, and the one line that it answers with."""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("illava")
OFF = ["--preset", "off", "--max-tokens", "4", "--device", "cpu"]
ASK = ["--prompt", "What is shown?"]
LLAVA, QWEN = "llava_onevision", "qwen2_vl"


def one_line(done: tuple[int, str, str], code: int, *parts: str, warnings: int = 0) -> None:
    """Asserts exit code, an empty stdout, and one line of error on stderr, after so many warnings."""
    assert done[:2] == (code, ""), done
    *before, error = done[2].splitlines()
    assert len(before) == warnings, done
    assert all(line.startswith("illava: warning: ") for line in before), done
    assert error.startswith("illava: error: "), done
    assert done[2].endswith(error + "\n")
    assert "Traceback" not in error
    for part in parts:
        assert part in error, done
