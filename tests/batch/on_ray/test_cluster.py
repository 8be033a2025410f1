"""Clusters that cannot be had, each in a line that says what to do."""

import socket

import pytest

pytest.importorskip("ray", reason="needs Ray: pip install 'illava[ray]'")

from illava_cli.batch.on_ray.cluster import _refused, cluster
from illava_cli.errors import IllavaError


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_nobody_listens(form):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = form.format(taken.getsockname()[1])
        with pytest.raises(IllavaError, match=f"cannot reach a Ray cluster at {address}"), cluster(address):
            pass


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        (
            "a:1",
            "ray.exceptions.AuthenticationError: InvalidAuthToken",
            "asks for a token: set RAY_AUTH_MODE",
        ),
        ("a:1", "Version mismatch: Ray: 2.9", "runs other versions than this program: Version mismatch"),
        ("a:1", "Failed to connect", "cannot reach a Ray cluster at a:1: start one"),
        ("local", "no\nroom", "cannot start a Ray cluster on this machine: no room"),
    ],
)
def test_what_ray_refuses(address, error, message):
    assert message in _refused(address, RuntimeError(error))
    assert "\n" not in _refused(address, RuntimeError(error))
