"""Where lmms-eval is missing, one line says what to install."""

import sys

import pytest

from tests.processes import run


@pytest.mark.parametrize(
    "statement",
    [
        "from illava_cli.integrations.lmms import manifest; manifest()",
        "import illava_cli.integrations.lmms.model",
    ],
)
def test_a_missing_harness_is_one_line(statement):
    code = f"import sys; sys.modules['lmms_eval'] = None; {statement}"
    done = run([sys.executable, "-c", code])
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: lmms-eval 0.7 or later is needed here")
    assert "pip install 'illava[lmms]'" in last
