"""A worker on a small model: every item has its record, whatever becomes of its neighbours."""

import threading
import weakref

import pytest
import torch

from illava_cli.batch.item import Item
from illava_cli.batch.worker import Options, Worker
from illava_cli.errors import OutOfMemory
from tests.conftest import picture
from tests.media_files import write_clip
from tests.schedules import SCHEDULES

pytestmark = pytest.mark.usefixtures("quiet")


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
    encode = session.family.encode
    monkeypatch.setattr(
        session.family, "encode", lambda media, *a, **k: encoded.extend(media) or encode(media, *a, **k)
    )
    few = [item for item in items if item.id in ("0", "again", "5", "long")]
    assert len(answers(session, few, batch_size=1, readers=0)) == 4
    assert len(encoded) == 2


def test_a_batch_that_does_not_fit_is_made_smaller(session, items, monkeypatch, caplog):
    sizes = []
    ask_batch = type(session).ask_batch

    def ask(self, requests, **options):
        sizes.append(len(requests))
        if len(requests) > 2:
            raise OutOfMemory("out of memory")
        return ask_batch(self, requests, **options)

    monkeypatch.setattr(type(session), "ask_batch", ask)
    same = [Item(f"x{n}", f"{n}?", ("0.png",), folder=items[0].folder) for n in range(12)]
    records = answers(session, same, readers=0)
    assert {record["status"] for record in records.values()} == {"ok"}
    # the first eight in halves, the other four at once in twos
    assert sizes == [8, 4, 2, 2, 4, 2, 2, 2, 2]
    sizes.clear()
    monkeypatch.setattr(
        type(session), "ask_batch", lambda *a, **k: (_ for _ in ()).throw(OutOfMemory("out of memory"))
    )
    records = answers(session, same[:2], readers=0, batch_size=2)
    assert [r["error"]["type"] for r in records.values()] == ["OutOfMemory"] * 2


def test_a_pass_that_did_not_fit_is_forgotten_before_the_next(session, items, monkeypatch):
    left = []  # of the pass that failed
    ask_batch = type(session).ask_batch

    def ask(self, requests, **options):
        if len(requests) > 1:
            tensor = torch.zeros(3)
            left.append(weakref.ref(tensor))
            try:
                raise RuntimeError("can't allocate memory")
            except RuntimeError:
                raise OutOfMemory("out of memory") from None
        assert left[0]() is None
        return ask_batch(self, requests, **options)

    monkeypatch.setattr(type(session), "ask_batch", ask)
    same = [Item(f"x{n}", f"{n}?", ("0.png",), folder=items[0].folder) for n in range(2)]
    records = answers(session, same, readers=0, batch_size=2)
    assert [record["error"] for record in records.values()] == [None, None]


def test_what_no_allocator_grants_is_out_of_memory(session, monkeypatch):
    def encode(*args, **options):
        torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(session.family, "encode", encode)
    with pytest.raises(OutOfMemory, match="fewer frames"):
        session.ask("What?", [picture(84, 84)])


def test_a_bug_in_one_question_costs_one_answer(session, items, monkeypatch):
    ask_batch = type(session).ask_batch

    def ask(self, requests, **options):
        if any(one.request.id == "3" for one in requests):
            raise ValueError("a bug")
        return ask_batch(self, requests, **options)

    monkeypatch.setattr(type(session), "ask_batch", ask)
    records = answers(session, items[:6], batch_size=6, readers=0)
    assert [record["status"] for _, record in sorted(records.items())] == ["ok"] * 3 + ["error"] + ["ok"] * 2
    assert records["3"]["error"] == {"type": "ValueError", "message": "a bug"}


def test_late_answers_are_failures(session, items, monkeypatch):
    generate = session.model.generate

    def slow(**options):
        (watcher,) = options["stopping_criteria"]
        watcher.cancel.wait(20)
        return generate(**options)

    monkeypatch.setattr(session.model, "generate", slow)
    records = answers(session, items[:2], batch_size=2, readers=0, timeout=0.05)
    assert [r["error"]["type"] for r in records.values()] == ["Timeout"] * 2
    assert "0.05 s" in records["0"]["error"]["message"]


def test_stopping_finishes_the_batch_in_hand(session, items):
    stop = threading.Event()
    worker = Worker(session, Options(batch_size=2, readers=0), stop)
    records = []
    for record in worker.answer(items[:6]):
        records.append(record)
        stop.set()
    assert len(records) == 2


def test_sampled_answers_do_not_depend_on_their_neighbours(session, items):
    session.update(["temperature=1.0", "seed=3"])
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
