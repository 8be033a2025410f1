"""Which conversation goes on is decided by all that was said, and by whom; the least recently used leave."""

import asyncio

import pytest
import torch

from illava_cli.engine.past import Past
from illava_cli.models.cache import MergeCache
from illava_cli.openai.asked import Asked, Round
from illava_cli.serve.conversations import Conversations, Said
from illava_cli.serve.trimming import Trimming


def asked(*prompts, answers=(), **more):
    return Asked(tuple(Round(prompt, ("a.png",)) for prompt in prompts), tuple(answers), **more)


def past_of(rounds):
    """A conversation of so many rounds, of 64 tokens each at most."""
    past = Past(MergeCache(2))
    for _ in range(rounds):
        for layer in range(2):
            past.cache._reserve(past.cache.keys, layer, torch.zeros(1, 1, 1, 4), 1, 64)
        past.cache.depths, past.cache.next_position = {0: [past.rounds + 1]}, [past.rounds + 1]
        past.end_round("image", [1], [2, 3], 1)
    return past


def test_a_key_follows_all_that_was_said():
    one = Said(asked("Why?", "How?", answers=["So."]), "me")
    assert len(one.keys) == 1
    assert one.whole("Thus.") == Said(asked("Why?", "How?", "Who?", answers=["So.", " Thus.\n"]), "me").keys
    others = [
        Said(asked("Why?", "How?", answers=["So."]), "another"),
        Said(asked("Why?", "How?", answers=["No."]), "me"),
        Said(asked("Why?", "How?", answers=["So."], system="Be brief."), "me"),
        Said(Asked((Round("Why?", ("b.png",)), Round("How?")), ("So.",)), "me"),
        Said(Asked((Round("Why?", (), ("a.png",)), Round("How?")), ("So.",)), "me"),
    ]
    keys = [one.keys[0], *(other.keys[0] for other in others)]
    assert len(set(keys)) == len(keys)


def test_the_one_that_goes_furthest_is_taken_and_is_nobody_elses_meanwhile():
    kept, past = Conversations(1 << 20), past_of(3)
    kept.put(["a", "b", "c"], past)
    assert kept.take(["x"]) is None
    assert kept.take(["a", "b", "other"]) is past
    assert past.rounds == 2
    assert (len(kept), kept.bytes) == (0, 0)
    assert kept.take(["a"]) is None


def test_a_longer_one_takes_the_place_of_its_beginning():
    kept = Conversations(1 << 20)
    kept.put(["a"], past_of(1))
    kept.put(["a", "b"], longer := past_of(2))
    assert len(kept) == 1
    assert kept.take(["a"]) is longer


def test_the_least_recently_used_leave():
    size = past_of(1).nbytes
    kept = Conversations(2 * size)
    for name in "abc":
        kept.put([name], past_of(1))
        assert kept.bytes <= 2 * size
    assert kept.take(["a"]) is None
    assert kept.take(["b"]) is not None
    Conversations(size - 1).put(["a"], past_of(1))


@pytest.mark.parametrize("asked_again", [False, True])
def test_memory_is_given_back_once_nothing_is_asked(asked_again):
    async def main():
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        trimming = Trimming(lambda: loop.call_soon_threadsafe(done.set), quiet_s=0.01)
        trimming.rest()
        if asked_again:
            trimming.wake()
            await asyncio.sleep(0.05)
            assert not done.is_set()
            trimming.rest()
        await done.wait()

    asyncio.run(main())
