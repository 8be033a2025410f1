"""A test that lacks something says what, and the summary counts."""

import os
import sys

import pytest

from tests.needs import NEEDS, counted
from tests.processes import ROOT, run

TESTS = """\
import pytest
from tests.needs import skip

@pytest.mark.needs("jq")
@pytest.mark.parametrize("number", range(3))
def test_jq(number):
    raise AssertionError("has no jq")

@pytest.mark.needs("no torchvision", "browser")
class TestPage:
    def test_page(self):
        raise AssertionError("has no browser")

@pytest.mark.network
def test_hub():
    skip("network", "no connection to the hub")

def test_plain():
    pytest.skip("takes images only")

@pytest.mark.xfail
def test_known():
    raise AssertionError

def test_runs():
    pass
"""


def test_skips_are_named_and_counted(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "test_module.py").write_text(
        'import pytest\npytest.importorskip("no_such_module", reason="needs Ray: pip install it")\n'
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.needs",
        "-p",
        "no:cacheprovider",
        "-rs",
        "-n",
        "1",
    ]
    done = run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": ""})
    assert done.returncode == 0, done.stdout
    assert "skipped: 3 jq, 1 Ray, 1 browser, 1 network, 1 other" in done.stdout.splitlines()
    assert "needs jq: no jq: apt-get install jq" in done.stdout
    assert "needs browser: no chromium and no chromedriver: apt-get install chromium chromium-driver" in (
        done.stdout
    )


def test_reasons_are_counted_by_need():
    reasons = [f"Skipped: needs {name}: because" for name in ("GPU", "network", "GPU")]
    assert counted(reasons) == "2 GPU, 1 network"
    assert counted(["Skipped: takes images only"]) == "1 other"


@pytest.mark.parametrize("name", NEEDS)
def test_what_is_missing_is_one_line(name):
    found = NEEDS[name]()
    assert found is None or (found and "\n" not in found and ":" not in name)
