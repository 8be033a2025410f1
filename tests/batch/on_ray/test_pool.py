"""Items out and records in over a cluster of two workers, by replicas without a model."""

import os
import threading

import pytest

pytest.importorskip("ray", reason="needs Ray: pip install 'illava[ray]'")

from illava_cli.batch.item import Item
from illava_cli.batch.on_ray import pool as module
from illava_cli.batch.on_ray.cluster import cluster
from illava_cli.batch.on_ray.pool import Pool, blocks, refuse_pipes
from illava_cli.batch.on_ray.replica import Setup
from illava_cli.batch.on_ray.shares import Share
from illava_cli.config import Config
from illava_cli.errors import ModelError, UsageError
from tests.batch.on_ray import replicas
from tests.needs import skip


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    with cluster("local") as nodes:
        if sum(node.cpus for node in nodes) < 2:
            skip("two cores", "two replicas")
        yield


@pytest.fixture
def pool(monkeypatch):
    """Makes a pool of two replicas of a kind, and collects its notes."""

    def make(kind, stop=None):
        monkeypatch.setattr(module, "Replica", kind)
        setup = Setup(Config(), None, 0, None, folder=os.getcwd(), threads=1, loads=2, tries=1)
        notes: list[str] = []
        made = Pool(setup, Share(2, 1), stop or threading.Event(), on_note=notes.append)
        made.notes = notes
        return made

    return make


def named(*ids):
    return [Item(id, f"say {id}", (f"{id}.jpg",)) for id in ids]


def test_each_item_has_one_record_though_one_of_them_kills_its_replica(pool):
    ids = ["kill", "note", *map(str, range(30))]
    sayers = pool(replicas.Saying)
    found = list(sayers.answer(named(*ids)))
    assert sorted(record["id"] for record in found) == sorted(ids)
    texts = {record["id"]: record["text"] for record in found}
    assert "replicas died over it (1 in a row)" in texts.pop("kill")
    assert texts == {id: f"say {id}" for id in ids[1:]}
    assert len({record["pid"] for record in found}) > 2  # others took the place of those that died
    assert sayers.notes == ["a note"]


def test_what_is_in_flight_at_a_stop_is_answered_and_no_more(pool):
    stop = threading.Event()
    found = []
    for record in pool(replicas.Saying, stop).answer(named(*(f"slow-{n}" for n in range(400)))):
        found.append(record["id"])
        stop.set()
    assert 1 <= len(found) < 100
    assert len(set(found)) == len(found)


def test_a_model_that_cannot_be_loaded_ends_the_run_in_a_line(pool):
    with pytest.raises(ModelError) as caught:
        list(pool(replicas.Unloadable).answer(named("a")))
    assert str(caught.value) == "no such model"


@pytest.mark.slow
def test_replicas_that_die_while_loading_end_the_run(pool):
    with pytest.raises(ModelError, match="die while they load the model"):
        list(pool(replicas.DyingLoad).answer(named("a", "b")))


@pytest.mark.parametrize(
    ("items", "workers", "sizes"),
    [
        (300, 2, [37] * 8 + [4]),
        (6, 2, [3, 3]),
        (40, 2, [8] * 5),
        (2000, 2, [64] * 31 + [16]),
        (1, 4, [1]),
    ],
)
def test_blocks(items, workers, sizes):
    made = blocks(named(*map(str, range(items))), workers, most=64)
    assert [len(block) for block in made] == sizes
    assert [item.id for block in made for item in block] == list(map(str, range(items)))


def test_questions_about_one_picture_stay_together():
    items = [Item(f"{n}", "?", (f"{n % 5}.jpg",)) for n in range(40)]
    made = blocks(items, 5, most=64)
    assert [{item.images for item in block} for block in made] == [{(f"{n}.jpg",)} for n in range(5)]


def test_what_only_the_program_could_read_is_refused():
    refuse_pipes([Item("a", "?", ("a.jpg", "http://x/dev/fd/1"))])
    with pytest.raises(UsageError, match="/dev/fd/63: --workers ray takes files and URLs"):
        refuse_pipes([Item("a", "?", ("a.jpg",), ("/dev/fd/63",))])
