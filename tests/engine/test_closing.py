"""Where unmerged positions do not fit the context, those of the tokens that are left close up."""

from bisect import bisect_right

import pytest
import torch

from illava_cli.config import resolve
from illava_cli.engine import assemble
from illava_cli.engine.closing import Room, closed_up
from illava_cli.engine.opening import load
from illava_cli.errors import ContextError
from tests.conftest import clip, picture
from tests.schedules import SCHEDULES

FAMILIES = [
    *("llava faithful, original", "internvl, original", "gemma4, paper"),
    *("qwen, paper", "qwen2.5, paper", "qwen3, paper", "qwen3.5, paper"),
]
TOLD = "positions were closed up from"


# --- the rule -----------------------------------------------------------------------------------


def drawn(axes, seed):
    """Positions, medium of each token and end of a row of which a part has left."""
    draw = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high, (), generator=draw))

    tokens, base = [], 0  # of each its position and medium
    for medium in range(number(1, 5)):
        for _ in range(number(0, 4)):
            tokens.append(((base,) * axes, -1))
            base += 1
        if axes == 1:
            places = [(base + n,) for n in range(number(1, 30))]
            follows = base + len(places)
        else:
            steps, rows, columns, pace = number(1, 5), number(1, 5), number(1, 5), number(1, 7)
            places = [
                (base + pace * t, base + y, base + x)
                for t in range(steps)
                for y in range(rows)
                for x in range(columns)
            ]
            follows = base + max(rows, columns)  # time may run on beside the text
            if number(0, 2):
                follows = max(follows, places[-1][0] + 1)
        # in a pooled frame several may stand in one place
        left = [place for place in places for _ in range(number(0, 3) if axes == 1 else number(0, 2))]
        tokens += [(place, medium) for place in left]
        base = follows
    tokens.append(((base,) * axes, -1))
    positions = torch.tensor([place for place, _ in tokens]).T
    return positions, torch.tensor([medium for _, medium in tokens]), base + 1


def slowly(positions, media, end, wanted):
    """The same rule, token by token."""
    count = len(media)
    time = [*positions[0].tolist(), end]
    starts = [n for n in range(count) if n == 0 or media[n] < 0 or media[n] != media[n - 1]]
    runs = list(zip(starts, [*starts[1:], count], strict=True))
    needed, empty = [], []
    for n in range(count + 1):
        step = time[n] - (time[n - 1] if n else -1)
        least = 1
        for start, stop in runs:
            if n == start:
                least += time[n] - int(positions[:, start:stop].min())
        needed.append(min(step, least))
        empty.append(step - needed[-1])

    def shrunk(left):
        moments, at, passed = [], -1, 0
        for n in range(count + 1):
            before = passed * left // max(1, sum(empty))
            passed += empty[n]
            at += needed[n] + passed * left // max(1, sum(empty)) - before
            for start, stop in runs:
                if n == stop:
                    still = [time[start], *positions[1:, start:stop].flatten().tolist()]
                    at = max(at, moments[start] + min(max(still) + 1, time[stop]) - time[start])
            moments.append(at)
        return moments

    wanted = max(wanted, *shrunk(0))
    moments = shrunk(bisect_right(range(sum(empty) + 1), wanted, key=lambda left: max(shrunk(left))) - 1)
    found = positions.clone()
    found[0] = torch.tensor(moments[:-1])
    for start, stop in runs:
        found[1:, start:stop] += moments[start] - time[start]
    return found, moments[-1]


@pytest.mark.parametrize("axes", [1, 3])
def test_it_is_the_rule_token_by_token(axes):
    shorter = 0
    for seed in range(150):
        positions, media, end = drawn(axes, seed)
        reach = max(end, int(positions.max()) + 1)
        for wanted in (reach, reach - 1, (2 * reach + len(media)) // 3, 1):
            expected, expected_end = slowly(positions, media, end, wanted)
            found, found_end = closed_up(positions, media, end, wanted)
            assert torch.equal(found, expected)
            assert found_end == expected_end
            shorter += found_end < end
    assert shorter > 100


@pytest.mark.parametrize("axes", [1, 3])
def test_nothing_changes_that_fits(axes):
    for seed in range(50):
        positions, media, end = drawn(axes, seed)
        found, found_end = closed_up(positions, media, end, max(end, int(positions.max()) + 1))
        assert torch.equal(found, positions)
        assert found_end == end


def test_on_one_axis_all_room_is_used_and_no_token_moves_past_another():
    for seed in range(50):
        positions, media, end = drawn(1, seed)
        for wanted in range(1, end + 1):
            found, found_end = closed_up(positions, media, end, wanted)
            assert found_end == max(wanted, len(positions[0].unique()))
            assert found[0, 0] >= 0
            assert torch.equal(found[0].diff().clamp(max=1), positions[0].diff().clamp(max=1))
            assert found[0, -1] == found_end - 1


def test_with_time_rows_and_columns_stay_and_what_follows_is_beyond_them():
    for seed in range(100):
        positions, media, end = drawn(3, seed)
        found, _ = closed_up(positions, media, end, 1)
        for medium in range(int(media.max()) + 1):
            own = media == medium
            if not own.any():
                continue
            moved = (found - positions)[1:, own]
            assert (moved == moved[0, 0]).all()
            before, after = positions[0, own].unique(), found[0, own].unique()
            assert len(before) == len(after)
            assert (after.diff() <= before.diff()).all()
            stop = int(own.nonzero()[-1]) + 1
            if media[stop] < 0 and positions[0, stop] > positions[:, own].max():
                assert found[0, stop] > found[:, own].max()


def test_room_is_made_for_an_answer_that_can_have_it():
    assert Room.of(100, 20, 70) == Room(80, 80)
    # it cannot have all: what fits stays
    assert Room.of(100, 20, 90) == Room(99, 90)


# --- in the engine ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny():
    settings = ["model.device=cpu", "media.num_frames=128", "preset=paper"]
    return load(config=resolve("tiny", settings=settings, environ={}))


def laid(monkeypatch):
    """What is assembled from now on."""
    made, plain = [], assemble.assemble

    def seen(*args, **options):
        new, where = plain(*args, **options)
        made.append(new)
        return new, where

    monkeypatch.setattr("illava_cli.engine.runner.assemble", seen)
    return made


def test_a_context_holds_what_merging_has_left(tiny, monkeypatch):
    made = laid(monkeypatch)
    answer = tiny.ask("Which way does the circle move?", videos=[clip(128, 24, 24)])
    tokens = answer.usage.prompt_tokens
    (note,) = answer.notes
    assert note == f"{TOLD} {tokens + 1280} to 4080 for the context"
    assert made[0].next_position == [4080]  # and the 16 tokens of the answer
    with pytest.raises(ContextError, match=r"the prompt has 5\d\d\d tokens"):  # and not 6,9xx
        tiny.updated(["num_frames=192"]).ask("What moves?", videos=[clip(192, 24, 24)])


def test_an_answer_has_room_where_it_had_too_little(open_session, monkeypatch):
    family, settings = SCHEDULES["llava faithful, original"]
    session = open_session(family, *settings)
    made = laid(monkeypatch)
    session.ask("What?", [picture(200, 150)])
    end, tokens = made[0].next_position[0], made[0].lengths[0]
    assert tokens + 12 < end
    monkeypatch.setattr(session.family.text_config, "max_position_embeddings", end + 2)
    answer = session.ask("What?", [picture(200, 150)])  # asks for 6 tokens
    assert answer.notes == (f"{TOLD} {end} to {end - 4} for the context",)
    assert len(answer.token_ids) == 6
    # one that cannot have all it asks for has what it had
    answer = session.updated(["max_tokens=100000"]).ask("What?", [picture(200, 150)])
    assert answer.notes == ("the context leaves room for 2 of the 100000 tokens asked for",)
    assert torch.equal(made[-1].position_ids, made[0].position_ids)
    # one whose prompt did not fit, what the prompt's tokens leave
    monkeypatch.setattr(session.family.text_config, "max_position_embeddings", end - 2)
    session.updated(["max_tokens=100000"]).ask("What?", [picture(200, 150)])
    assert made[-1].next_position == [tokens]


@pytest.mark.parametrize("name", ["llava faithful, original", "qwen, paper", "qwen3, paper", "gemma4, paper"])
def test_what_fits_is_not_looked_at(name, open_session, monkeypatch):
    family, settings = SCHEDULES[name]
    session = open_session(family, *settings)
    monkeypatch.setattr(assemble, "closed_up", lambda *args: pytest.fail("looked at"))
    assert session.ask("What?", [picture(200, 150)]).notes == ()


def test_the_unmodified_model_keeps_its_positions(open_session, monkeypatch):
    session = open_session("qwen2_5_vl", "preset=off", "generation.max_tokens=2")
    monkeypatch.setattr("illava_cli.models.families.qwen2_5_vl.seconds_per_grid", lambda *args: 1000.0)
    monkeypatch.setattr(assemble, "closed_up", lambda *args: pytest.fail("closed up"))
    made = laid(monkeypatch)
    session.ask("What?", videos=[clip(8, 56, 56)])
    assert made[0].position_ids.max() > session.context_length


def test_time_closes_up_where_it_runs_beyond_the_context(open_session, monkeypatch):
    """Of Qwen2.5-VL, of which two positions are a second, and whose text goes on beside the time."""
    family, settings = SCHEDULES["qwen2.5, paper"]
    session = open_session(family, *settings)
    made = laid(monkeypatch)
    seconds = 1000.0
    monkeypatch.setattr("illava_cli.models.families.qwen2_5_vl.seconds_per_grid", lambda *args: seconds)
    answer = session.ask("What?", videos=[clip(8, 112, 112)])
    assert answer.notes[0].startswith(TOLD)
    closed = made[0]
    assert closed.position_ids.max() < session.context_length
    seconds = 1.0
    session.ask("What?", videos=[clip(8, 112, 112)])
    plain = made[1]
    assert torch.equal(closed.position_ids[1:], plain.position_ids[1:])
    assert closed.next_position == plain.next_position
    own = closed.kinds[0] > 0
    steps = closed.position_ids[0, 0, own].unique()
    assert len(steps) == 4
    assert steps.diff().max() - steps.diff().min() <= 1  # in proportion


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prompt_may_be_as_near_as_it_can(name, open_session, monkeypatch):
    family, settings = SCHEDULES[name]
    session = open_session(family, *settings)
    made = laid(monkeypatch)
    media = [picture(200, 150)], [clip(4, 96, 64)]
    plain = session.ask("Both?", *media, logits=True)
    monkeypatch.setattr(Room, "of", lambda *args: Room(0, 0))
    closed = session.ask("Both?", *media, logits=True)
    assert closed.usage == plain.usage
    before, after = made
    if session.family.rope_axes == 1:
        moments = after.position_ids[0].unique()
        assert after.next_position == [len(moments)]
    assert after.next_position[0] <= before.next_position[0]
    moved = not torch.equal(before.position_ids, after.position_ids)
    assert moved or session.family.rope_axes > 1  # there rows and columns may need all that there is
    assert moved == any(note.startswith(TOLD) for note in closed.notes)
    assert moved == (not torch.equal(closed.logits, plain.logits))
    assert closed.logits.isfinite().all()


def test_of_a_conversation_only_the_new_turn_closes_up(open_session, monkeypatch):
    family, settings = SCHEDULES["llava faithful, original"]
    session = open_session(family, *settings, fresh=True)
    made, chats = laid(monkeypatch), [session.chat(), session.chat()]
    for chat in chats:
        chat.ask("What?", [picture(150, 150, 2)])
    start = chats[0].past.position
    chats[0].ask("And this?", [picture(200, 150, 3)])
    end = chats[0].context_used
    monkeypatch.setattr(session.family.text_config, "max_position_embeddings", end - 20)
    answer = chats[1].ask("And this?", [picture(200, 150, 3)])
    assert answer.notes[0].startswith(TOLD)
    before, after = made[2], made[3]
    assert before.position_ids[0, 0] == after.position_ids[0, 0] == start
    assert after.next_position == [end - 20 - 6]
    assert chats[1].context_used <= end - 20
    # an empty span of earlier turns stays
    monkeypatch.setattr(session.family.text_config, "max_position_embeddings", chats[1].context_used + 2)
    with pytest.raises(ContextError):
        chats[1].ask("And why?")
