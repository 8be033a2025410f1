"""What a replica says of its blocks, in this process and without Ray."""

import pickle
import threading

import pytest

pytest.importorskip("ray", reason="needs Ray: pip install 'illava[ray]'")

from illava_cli.batch.item import Item
from illava_cli.batch.on_ray import replica as module
from illava_cli.batch.on_ray.replica import Setup
from illava_cli.config import Config
from illava_cli.errors import ModelError
from tests.batch.on_ray.replicas import Saying, Unloadable

ITEMS = [Item("a", "say a"), Item("note", "say note"), Item("b", "say b")]


class _Call:
    def __init__(self, function):
        self.remote = function


class _Ledger:
    """Answers at once, in the place of an actor."""

    def __init__(self, trial=1, loads=1):
        self.loading, self.loaded = _Call(lambda: loads), _Call(lambda: None)
        self.begin, self.end = _Call(lambda block: trial), _Call(lambda block: None)
        self.stopped = _Call(threading.Event().wait)


@pytest.fixture
def messages(monkeypatch):
    """The messages of a new replica of a kind about a block."""
    monkeypatch.setattr(module.ray, "get", lambda value: value)

    def ask(kind, items, **ledger):
        made = kind(Setup(Config(), None, 0, None, folder=".", threads=1, loads=2), _Ledger(**ledger))
        rows = module.pyarrow.table({"number": [5], "items": [pickle.dumps(items)]})
        return [pickle.loads(data) for table in made(rows) for data in table["message"].to_pylist()]

    return ask


def test_records_come_before_notes(messages):
    found = messages(Saying, ITEMS)
    assert [kind for kind, _ in found] == ["record", "record", "record", "note"]
    assert [value["id"] for _, value in found[:3]] == ["a", "note", "b"]


def test_a_block_that_killed_replicas_is_left_to_be_asked_singly(messages):
    assert len(messages(Saying, ITEMS, trial=2)) == 4
    assert messages(Saying, ITEMS, trial=3) == []
    ((kind, record),) = messages(Saying, ITEMS[:1], trial=3)
    assert (kind, record["id"]) == ("record", "a")
    assert "replicas died over it (2 in a row)" in record["text"]


def test_nothing_begins_after_a_stop(messages):
    assert messages(Saying, ITEMS, trial=0) == []


def test_a_model_that_cannot_be_loaded(messages):
    ((kind, error),) = messages(Unloadable, ITEMS)
    assert (kind, type(error), str(error)) == ("failure", ModelError, "no such model")
    ((_, error),) = messages(Saying, ITEMS, loads=3)
    assert str(error) == module.DYING


def test_a_bug_keeps_its_name_and_its_traceback(messages):
    (*_, (kind, error)) = messages(Saying, [*ITEMS, Item("bug", "?")])
    assert (kind, type(error)) == ("failure", ZeroDivisionError)
    assert "replicas.py" in error.__notes__[0]


def test_an_error_that_cannot_be_sent_is_told(messages):
    (*_, (kind, error)) = messages(Saying, [*ITEMS, Item("odd", "?")])
    assert (kind, type(error), str(error)) == ("failure", ModelError, "Odd: an odd one")
