"""How a cluster's nodes are divided among replicas."""

import pytest

from illava_cli.batch.on_ray.shares import Node, Share, share_out
from illava_cli.errors import ModelError, UsageError


def share(nodes, replicas=None, device="auto", spread=False):
    return share_out(nodes, replicas=replicas, device=device, spread=spread)


@pytest.mark.parametrize(
    ("nodes", "replicas", "expected"),
    [
        ([Node(2)], None, Share(1, 2)),
        ([Node(2)], 2, Share(2, 1)),
        ([Node(16)], None, Share(4, 4)),
        ([Node(16)], 1, Share(1, 16)),
        ([Node(16)], 3, Share(3, 5)),
        ([Node(8), Node(3)], None, Share(3, 3)),  # what fits on the smaller node fits everywhere
        ([Node(8), Node(3)], 2, Share(2, 4)),  # both on the larger one
        ([Node(8), Node(0)], None, Share(2, 4)),
    ],
)
def test_cpus(nodes, replicas, expected):
    assert share(nodes, replicas) == expected


def test_gpus():
    assert share([Node(32, 4), Node(64, 8)]) == Share(12, 4, 1)
    assert share([Node(32, 4), Node(64, 8)], 5) == Share(5, 4, 1)
    assert share([Node(4, 4), Node(64)]) == Share(4, 1, 1)
    assert share([Node(2, 4)]) == Share(4, 0, 1)
    assert share([Node(32, 4)], device="cpu") == Share(8, 4)
    assert share([Node(32, 4)], device="cuda") == Share(4, 4, 1)


def test_a_model_that_is_spread_gets_a_nodes_gpus():
    assert share([Node(32, 4), Node(64, 8)], spread=True) == Share(3, 4, 4)
    assert share([Node(32, 4), Node(64, 8)], 6, spread=True) == Share(6, 4, 2)
    assert share([Node(16)], spread=True) == Share(4, 4)


@pytest.mark.parametrize(
    ("nodes", "settings", "error", "message"),
    [
        ([Node(2)], {"replicas": 3}, UsageError, "--replicas 3: the cluster has 2 CPUs"),
        ([Node(8, 1)], {"replicas": 2}, UsageError, "--replicas 2: the cluster has 1 GPU"),
        ([Node(8)], {"device": "cuda"}, ModelError, "no node of the cluster has a GPU: use --device cpu"),
        (
            [Node(8, 2)],
            {"device": "cuda:1"},
            UsageError,
            "--device cuda:1: Ray gives each",
        ),
        ([Node(0)], {}, UsageError, "no node of the cluster has a CPU"),
    ],
)
def test_what_cannot_be(nodes, settings, error, message):
    with pytest.raises(error, match=message):
        share(nodes, **settings)


def test_in_words():
    assert str(Share(2, 1)) == "2 replicas, each with 1 CPU"
    assert str(Share(1, 4, 2)) == "1 replica, each with 2 GPUs and 4 CPUs"
    assert str(Share(4, 0, 1)) == "4 replicas, each with 1 GPU"
