"""`illava batch --workers ray` on the embedded model, and the mistakes that it tells at once."""

import json
import sys

import pytest

from illava_cli.cli.app import main
from tests.batch.conftest import photos
from tests.batch.program import Program

QUICK = ["batch", "photos", "-p", "What?", "-m", "tiny", "--max-tiles", "1", "--max-tokens", "3"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five pictures and a broken one in `photos`, which is in the working directory."""
    photos(tmp_path, 5)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def records(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    names = ("id", "status", "text", "error", "prompt", "config_hash", "request_hash", "media", "usage")
    return sorted(([line[name] for name in names] for line in lines), key=lambda values: values[0])


@pytest.mark.long
@pytest.mark.needs("Ray")
def test_two_replicas_write_what_one_model_writes(folder):
    program = Program(folder)
    try:
        assert program.run(*QUICK, "-o", "here.jsonl", "--readers", "0") == 3
        assert program.run(*QUICK, "-o", "ray.jsonl", "--workers", "ray", "--replicas", "2") == 3
        said = program.said().splitlines()
    finally:
        program.close()
    assert len(records(folder / "ray.jsonl")) == 6
    assert records(folder / "ray.jsonl") == records(folder / "here.jsonl")
    # Ray itself says nothing
    assert all(line.startswith("illava: ") for line in said), said
    assert said[0] == "illava: Ray: 2 replicas, each with 1 CPU"
    assert said[-1] == "illava: 1 item failed; --retry-failed asks again"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "dask"], "--workers 'dask': expected local or ray"),
        (["--replicas", "2"], "--ray-address and --replicas go with --workers ray"),
    ],
)
def test_flags_that_do_not_fit(folder, capsys, arguments, message):
    assert main([*QUICK, "-o", "out.jsonl", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "out.jsonl").exists()


def test_without_ray_the_extra_is_named(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*QUICK, "-o", "out.jsonl", "--workers", "ray"]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "illava: error: --workers ray needs ray: pip install 'illava[ray]'\n")
