"""Which questions share a pass."""

from illava_cli.batch.item import Item
from illava_cli.batch.reader import Media
from illava_cli.batch.scheduling import WINDOW, Scheduler, Waiting


def waiting(id, tokens=100, kind="image"):
    return Waiting(Item(id, "?"), None, kind, tokens, Media())


def drained(scheduler):
    batches = []
    while batch := scheduler.batch(flush=True):
        batches.append("".join(one.item.id for one in batch))
    return batches


def test_it_waits_for_a_full_batch():
    scheduler = Scheduler(2)
    assert scheduler.batch(flush=True) == []
    scheduler.add(waiting("a"))
    assert scheduler.batch() == []
    scheduler.add(waiting("b"))
    scheduler.add(waiting("c"))
    assert [one.item.id for one in scheduler.batch()] == ["a", "b"]
    assert scheduler.batch() == []
    assert drained(scheduler) == ["c"]


def test_only_like_sizes_and_kinds_share_a_pass():
    scheduler = Scheduler(3)
    for id, tokens, kind in [
        ("a", 100, "i"),
        ("b", 151, "i"),
        ("c", 150, "i"),
        ("d", 100, "v"),
        ("e", 67, "i"),
    ]:
        scheduler.add(waiting(id, tokens, kind))
    assert drained(scheduler) == ["ace", "b", "d"]


def test_what_has_no_kind_goes_alone_and_at_once():
    scheduler = Scheduler(4)
    scheduler.add(waiting("a", kind=None))
    scheduler.add(waiting("b", kind=None))
    assert [one.item.id for one in scheduler.batch()] == ["a"]
    assert [one.item.id for one in scheduler.batch()] == ["b"]


def test_nobody_waits_for_ever():
    scheduler = Scheduler(2)
    scheduler.add(waiting("odd", 10_000))
    for number in range(2 * WINDOW - 2):
        scheduler.add(waiting(str(number)))
        assert scheduler.batch() == []
    scheduler.add(waiting("last"))
    assert [one.item.id for one in scheduler.batch()] == ["odd"]


def test_it_knows_what_is_still_held():
    scheduler = Scheduler(1)
    one = waiting("a")
    scheduler.add(one)
    assert scheduler.holds(one.media)
    assert not scheduler.holds(Media())  # equal, but another
    scheduler.batch()
    assert not scheduler.holds(one.media)
