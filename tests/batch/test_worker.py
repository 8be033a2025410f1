"""A worker on a small model: every item has its record, whatever becomes of its neighbours."""

import threading
import weakref

import pytest
import torch

from illava_cli.batch.item import Item
from illava_cli.batch.worker import Options, Worker
from illava_cli.engine import runner
from illava_cli.engine.runner import Runner
from illava_cli.errors import OutOfMemory
from illava_cli.models.encoder import encode
from tests.conftest import picture
from tests.media_files import write_clip
from tests.schedules import SCHEDULES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of three sizes, a clip, and a broken picture."""
    folder = tmp_path_factory.mktemp("media")
    for number in range(6):
        size = [(84, 84), (170, 90), (90, 170)][number % 3]
        picture(*size, number).save(folder / f"{number}.png")
    write_clip(folder / "clip.mp4", frames=12)
    (folder / "broken.png").write_text("no picture")
    return folder


@pytest.fixture
def session(open_session):
    family, settings = SCHEDULES["llava faithful, original"]
    options = ("generation.max_tokens=4", "media.num_frames=3")
    return open_session(family, *settings, *options, fresh=True)


@pytest.fixture
def items(folder):
    """Eleven questions: about one picture, two, a clip, a broken one; one of them longer."""
    named = [Item(f"{n}", f"What is {n}?", (f"{n}.png",), folder=str(folder)) for n in range(6)]
    return [
        *named,
        Item("again", "Again?", ("0.png",), folder=str(folder)),
        Item("two", "Both?", ("1.png", "2.png"), folder=str(folder)),
        Item("clip", "Then?", (), ("clip.mp4",), folder=str(folder)),
        Item("bad", "What?", ("broken.png",), folder=str(folder)),
        Item("long", "What?", ("5.png",), folder=str(folder), settings={"generation": {"max_tokens": 6}}),
    ]


def answers(session, items, stop=None, **options):
    worker = Worker(session, Options(**options), stop or threading.Event())
    return {record["id"]: record for record in worker.answer(items)}


@pytest.mark.parametrize(("batch_size", "readers"), [(1, 0), (4, 1), (None, 2)])
def test_items_are_answered_as_alone(session, items, batch_size, readers):
    records = answers(session, items, batch_size=batch_size, readers=readers)
    assert sorted(records) == sorted(item.id for item in items)
    for item in items:
        record = records[item.id]
        assert record["request_hash"] == item.request_hash
        assert record["config_hash"] == item.config(session.config).hash()
        if item.id == "bad":
            assert record["status"] == "error"
            assert record["error"]["type"] == "MediaError"
            assert "broken.png" in record["error"]["message"]
            continue
        alone = session.asking(item.config(session.config)).ask(item.prompt, *item.sources, id=item.id)
        assert (record["text"], record["usage"]) == (alone.text, alone.record()["usage"])
        assert record["media"] == alone.record()["media"]
    assert records["long"]["usage"]["completion_tokens"] > 4 or records["long"]["finish_reason"] == "stop"


def test_one_picture_under_several_prompts_is_encoded_once(session, items, monkeypatch):
    encoded = []

    def noted(family, media, *rest, **options):
        encoded.extend(media)
        return encode(family, media, *rest, **options)

    monkeypatch.setattr(runner, "encode", noted)
    few = [item for item in items if item.id in ("0", "again", "5", "long")]
    assert len(answers(session, few, batch_size=1, readers=0)) == 4
    assert len(encoded) == 2


def test_a_batch_that_does_not_fit_is_made_smaller(session, items, monkeypatch, caplog):
    sizes = []
    step = Runner.step

    def tight(self, cache, answers):
        sizes.append(len(answers))
        if len(answers) > 2:
            raise torch.OutOfMemoryError
        return step(self, cache, answers)

    monkeypatch.setattr(Runner, "step", tight)
    same = [Item(f"x{n}", f"{n}?", ("0.png",), folder=items[0].folder) for n in range(12)]
    records = answers(session, same, readers=0)
    assert {record["status"] for record in records.values()} == {"ok"}
    assert max(sizes) > 2
    assert max(sizes[sizes.index(max(sizes)) + 3 :]) <= 2  # it goes on with as many as there is memory for
    assert "out of memory with" in caplog.text
    monkeypatch.setattr(Runner, "step", lambda *a, **k: (_ for _ in ()).throw(OutOfMemory("out of memory")))
    records = answers(session, same[:2], readers=0, batch_size=2)
    assert [r["error"]["type"] for r in records.values()] == ["OutOfMemory"] * 2


def test_a_pass_that_did_not_fit_is_forgotten_before_the_next(session, items, monkeypatch):
    left = []  # of the pass that failed
    step = Runner.step

    def tight(self, cache, answers):
        if len(answers) > 1:
            tensor = torch.zeros(3)
            left.append(weakref.ref(tensor))
            raise RuntimeError("can't allocate memory")
        assert not left or left[0]() is None
        return step(self, cache, answers)

    monkeypatch.setattr(Runner, "step", tight)
    same = [Item(f"x{n}", f"{n}?", ("0.png",), folder=items[0].folder) for n in range(2)]
    records = answers(session, same, readers=0, batch_size=2)
    assert [record["error"] for record in records.values()] == [None, None]
    assert left


def test_what_no_allocator_grants_is_out_of_memory(session, monkeypatch):
    monkeypatch.setattr(runner, "encode", lambda *a, **k: torch.empty(2**60, dtype=torch.uint8))
    with pytest.raises(OutOfMemory, match="fewer frames"):
        session.ask("What?", [picture(84, 84)])


def test_a_bug_in_one_question_costs_one_answer(session, items, monkeypatch):
    together = Runner.encode

    def broken(self, turns):
        if any(turn.prepared.request.id == "3" for turn in turns):
            raise ValueError("a bug")
        return together(self, turns)

    monkeypatch.setattr(Runner, "encode", broken)
    records = answers(session, items[:6], batch_size=6, readers=0)
    assert [record["status"] for _, record in sorted(records.items())] == ["ok"] * 3 + ["error"] + ["ok"] * 2
    assert records["3"]["error"] == {"type": "ValueError", "message": "a bug"}


def test_late_answers_are_failures(session, items, monkeypatch):
    step, asked = Runner.step, []

    def slow(self, cache, answers):
        asked.append(len(answers))
        for answer in answers:
            answer.turn.began -= 20
        return step(self, cache, answers)

    monkeypatch.setattr(Runner, "step", slow)
    records = answers(session, items[:2], batch_size=2, readers=0, timeout=15)
    assert [r["error"]["type"] for r in records.values()] == ["Timeout"] * 2
    assert "15 s" in records["0"]["error"]["message"]
    assert asked[-2:] == [1, 1]  # each once more with nobody beside it


def test_stopping_finishes_the_batch_in_hand(session, items):
    stop = threading.Event()
    worker = Worker(session, Options(batch_size=2, readers=0), stop)
    records = []
    for record in worker.answer(items[:6]):
        records.append(record)
        stop.set()
    assert len(records) == 2


def test_sampled_answers_do_not_depend_on_their_neighbours(session, items):
    session = session.updated(["temperature=1.0", "seed=3"])
    together = answers(session, items[:4], batch_size=4, readers=0)
    apart = answers(session, items[2:3], batch_size=1, readers=0)
    assert together["2"]["text"] == apart["2"]["text"]


def test_a_guide_chooses_by_each_questions_own_words(open_session, guide_folders, folder):
    """Also of a clip that was read ahead, and of a picture that two questions are about."""
    settings = ["guide.method=free-video-llm", "guide.keep=0.4", "preset=off"]
    settings += [
        f"guide.model={guide_folders('free-video-llm')}",
        "generation.max_tokens=4",
        "media.num_frames=5",
    ]
    session = open_session("llava_onevision", *settings, fresh=True)
    asked = [
        ("Where is the cup?", "image"),
        ("What do nine zebras eat?", "image"),
        ("What happens?", "video"),
    ]
    media = {"image": {"images": (str(folder / "1.png"),)}, "video": {"videos": (str(folder / "clip.mp4"),)}}
    items = [Item(prompt, prompt, **media[kind]) for prompt, kind in asked]
    records = answers(session, items)
    for prompt, kind in asked:
        alone = session.ask(prompt, **media[kind]).record()
        assert (records[prompt]["text"], records[prompt]["media"]) == (alone["text"], alone["media"])
    boxes = [records[prompt]["media"][0]["crops"] for prompt, _ in asked]
    assert boxes[0] != boxes[1]
    assert len(boxes[2]) < 5
