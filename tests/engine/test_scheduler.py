"""Rows that join and leave between steps answer as each does alone, greedy and sampled."""

import threading

import pytest
import torch

from illava_cli.engine import runner
from illava_cli.engine.generation import generation_of
from illava_cli.engine.scheduler import Scheduler
from illava_cli.engine.session import Request
from illava_cli.errors import ContextError, OutOfMemory
from illava_cli.models.encoder import encode
from tests.conftest import IMAGES_ONLY, WRITERS, clip, picture
from tests.schedules import SCHEDULES
from tests.tolerances import FLOAT32

MERGING = {
    "gemma4": "gemma4, paper",
    "internvl": "internvl, original",
    "llava_next": "next faithful, original",
    "llava_onevision": "llava faithful, original",
    "qwen2_vl": "qwen, paper",
    "qwen2_5_vl": "qwen2.5, paper",
    "qwen3_vl": "qwen3, early",
    "qwen3_vl_moe": "qwen3 moe, paper",
    "qwen3_5": "qwen3.5, paper",
    "qwen3_5_moe": "qwen3.5 moe, authors",
}
# unlike media, prompts and lengths of the answer
QUESTIONS = [
    (Request("One.", [picture(200, 150, 1)]), 9),
    (Request("A much longer question, with no picture at all?"), 3),
    (Request("Which of the two?", [picture(120, 90, 5), picture(64, 140, 6)]), 12),
    (Request("And then?", videos=[clip(5, 96, 64, 1)]), 1),
    (Request("This <image> one?", [picture(500, 480, 4)], system="Be brief."), 6),
    (Request("Why?"), 14),
    (Request("Small?", [picture(40, 40, 7)]), 5),
    (Request("Again?", [picture(90, 300, 8)]), 8),
]


def questions(family):
    return [(r, n) for r, n in QUESTIONS if not (family in IMAGES_ONLY and r.videos)]


def turns_of(session, asked):
    for request, limit in asked:
        own = session.updated([f"max_tokens={limit}"])
        yield own.turn(own.prepare(request), logits=True)


def tokens_of(ended):
    answers = {}
    for turn, own, error in ended:
        if error is not None:
            raise error
        answers[turn] = own[0]
    return answers


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("merging", [False, True])
@pytest.mark.parametrize("family", WRITERS)
def test_rows_that_join_and_leave_answer_as_alone(family, merging, sampled, open_session):
    """Eight questions of unlike media and lengths, three rows: each joins and leaves at another step."""
    settings = SCHEDULES[MERGING[family]][1] if merging else ("preset=off",)
    # a draw may fall between what rounding makes of one probability, alone and in a batch
    session = open_session(family, *settings, "model.dtype=float64")
    if sampled:
        session = session.updated(["temperature=1.0", "top_p=0.9", "seed=11"])
    asked = questions(family)
    alone = [tokens_of(run(session, [one], rows=1)) for one in asked]
    scheduler = Scheduler(session.runner, rows=3, chunk=100)
    turns = list(turns_of(session, asked))
    sizes, ended = [], {}
    with session.runner.alone():
        for turn in turns:  # a newcomer at every second step
            scheduler.add(turn)
            for _ in range(2):
                ended |= tokens_of(scheduler.advance())
                sizes.append(len(scheduler.answers))
        ended |= tokens_of(scheduler.run())
    assert max(sizes) > 1
    assert len(set(sizes)) > 1
    for turn, own in zip(turns, alone, strict=True):
        (expected,) = own.values()
        torch.testing.assert_close(ended[turn].logits, expected.logits, **FLOAT32)
        assert ended[turn].tokens == expected.tokens


def run(session, asked, rows):
    scheduler = Scheduler(session.runner, rows)
    for turn in turns_of(session, asked):
        scheduler.add(turn)
    with session.runner.alone():
        yield from scheduler.run()


def test_a_prompt_in_chunks_is_the_prompt(open_session):
    """Also where the layers before a merge see all of it before the layers after it see any."""
    for name in SCHEDULES:
        family, settings = SCHEDULES[name]
        session = open_session(family, *settings)
        turns = [session.turn(session.prepare(QUESTIONS[0][0]), logits=True) for _ in range(2)]
        answers = []
        for turn, chunk in zip(turns, (None, 7), strict=True):
            scheduler = Scheduler(session.runner, 1, chunk)
            scheduler.add(turn)
            with session.runner.alone():
                answers.append(tokens_of(scheduler.run())[turn])
        whole, cut = answers
        torch.testing.assert_close(cut.logits, whole.logits, **FLOAT32)
        assert (cut.tokens, cut.turn.kept) == (whole.tokens, whole.turn.kept), name


def test_several_answers_share_a_prefill(open_session, monkeypatch):
    """Each has random numbers of its own; the first is the one that is given alone."""
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(family, *settings, "generation.temperature=1.0", "generation.max_tokens=8")
    passes = []
    monkeypatch.setattr(runner, "encode", lambda *a, **k: passes.append(1) or encode(*a, **k))
    session.features.clear()
    answers = session.sample("What?", [picture(90, 60)], n=3)
    assert passes == [1]
    assert answers[0].token_ids == session.ask("What?", [picture(90, 60)]).token_ids
    assert len({answer.token_ids for answer in answers}) == 3
    assert len({answer.usage.prompt_tokens for answer in answers}) == 1


def test_an_answer_conforms_to_what_it_is_constrained_by(open_session):
    """Each row by its own: one may only say even ids, the others say what they like."""
    session = open_session("qwen2_vl", "preset=off", "generation.max_tokens=6")
    size = len(session.family.unspoken)

    class Even:
        def allowed(self):
            return torch.arange(size) % 2 == 0

        def accept(self, token):
            assert token % 2 == 0

    asked = [session.turn(session.prepare(Request("Why?")), constrain=how) for how in (None, Even)]
    scheduler = Scheduler(session.runner, 2)
    for turn in asked:
        scheduler.add(turn)
    with session.runner.alone():
        free, even = map(tokens_of(scheduler.run()).get, asked)
    assert tuple(free.tokens) == session.ask("Why?").token_ids
    assert not any(token % 2 for token in even.tokens)


def test_a_newcomer_that_fails_leaves_the_others_alone(open_session):
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(family, *settings)
    good, long = Request("What?", [picture(90, 60)]), Request("a" * session.context_length)
    expected = session.ask("What?", [picture(90, 60)]).token_ids
    turns = [session.turn(session.prepare(request)) for request in (good, long, good)]
    scheduler = Scheduler(session.runner, 3)
    for turn in turns:
        scheduler.add(turn)
    with session.runner.alone():
        ended = {turn: (answers, error) for turn, answers, error in scheduler.run()}
    assert isinstance(ended[turns[1]][1], ContextError)
    for turn in (turns[0], turns[2]):
        assert tuple(ended[turn][0][0].tokens) == expected


def test_out_of_memory_makes_the_batch_smaller(open_session, monkeypatch):
    family, settings = SCHEDULES["qwen, paper"]
    session = open_session(family, *settings)
    expected = session.ask("What?", [picture(90, 60)]).token_ids
    step = type(session.runner).step

    def tight(self, cache, answers):
        if len(answers) > 2:
            raise torch.OutOfMemoryError("too many")
        return step(self, cache, answers)

    monkeypatch.setattr(type(session.runner), "step", tight)
    answers = session.ask_batch([{"prompt": "What?", "images": [picture(90, 60)]}] * 5)
    assert {answer.token_ids for answer in answers} == {expected}
    monkeypatch.setattr(type(session.runner), "step", lambda self, cache, answers: step(self, None, answers))
    with pytest.raises(Exception, match="NoneType"):
        session.ask_batch([{"prompt": "What?"}] * 2)

    def none(self, cache, answers):
        raise torch.OutOfMemoryError("too many")

    monkeypatch.setattr(type(session.runner), "step", none)
    with pytest.raises(OutOfMemory, match="out of memory: use fewer"):
        session.ask_batch([{"prompt": "What?"}] * 3)


def test_cancelling_a_batch_keeps_what_was_at_its_end(open_session):
    """A row at its end says why it ended; the others have no reason."""
    session = open_session("qwen2_vl", "preset=off")
    cancel = threading.Event()
    limits = (2, 50, 50)
    scheduler = Scheduler(session.runner, 3)
    for limit in limits:
        own = session.updated([f"max_tokens={limit}", "temperature=1.0"])
        scheduler.add(own.turn(own.prepare(Request("Why?")), cancel=cancel))
    reasons = []
    with session.runner.alone():
        while not scheduler.idle:
            for turn, (answer, *_), error in scheduler.advance():
                assert error is None
                reasons.append(generation_of(answer, session.family, 0.0).finish_reason)
                assert turn.cancel is cancel
            if len(reasons) == 1:
                cancel.set()
    assert reasons == ["length", None, None]


def test_what_a_listener_raises_ends_its_own_row(open_session):
    session = open_session("qwen2_vl", "preset=off", "generation.max_tokens=6")

    def deaf(answer, text):
        raise BrokenPipeError

    scheduler = Scheduler(session.runner, 2)
    turns = [session.turn(session.prepare(Request("Why?")), on_text=on) for on in (deaf, None)]
    for turn in turns:
        scheduler.add(turn)
    with session.runner.alone():
        ended = {turn: (answers, error) for turn, answers, error in scheduler.run()}
    assert isinstance(ended[turns[0]][1], BrokenPipeError)
    assert tuple(ended[turns[1]][0][0].tokens) == session.ask("Why?").token_ids


@pytest.mark.parametrize(("chunk", "most"), [(None, 3), (10_000, 3), (1, 1)])
def test_newcomers_enter_together_where_the_others_need_not_wait_long(chunk, most, open_session, monkeypatch):
    session = open_session("qwen2_vl", "preset=off", "generation.max_tokens=9")
    prefill, entered = type(session.runner).prefill, []
    monkeypatch.setattr(
        type(session.runner), "prefill", lambda self, *a: entered.append(len(a[0])) or prefill(self, *a)
    )
    scheduler = Scheduler(session.runner, 4, chunk)
    turns = [session.turn(session.prepare(Request(prompt))) for prompt in ("Why?", "How?", "Who?", "When?")]
    with session.runner.alone():
        scheduler.add(turns[0])
        scheduler.advance()
        for turn in turns[1:]:
            scheduler.add(turn)
        ended = list(scheduler.run())
    assert len(ended) == 4
    assert entered == [1, *[most] * (3 // most)]
