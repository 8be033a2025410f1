"""What the tests of the suite for a GPU share."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QWEN, LLAVA = "qwen2.5-vl-toy", "llava-onevision-toy"
posix = pytest.mark.skipif(sys.platform == "win32", reason="a bash script and its signals")
