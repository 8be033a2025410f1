"""Questions under several variants on one model: what is asked, compared, skipped and survived."""

import pytest
import torch

from illava_cli.config import resolve
from illava_cli.engine.session import Session
from illava_cli.evals.lanes import Lane
from illava_cli.evals.report import summary
from illava_cli.evals.results import Results
from illava_cli.evals.runner import Runner, alike
from illava_cli.evals.sample import EvalSample
from illava_cli.evals.variants import variants
from tests.conftest import picture
from tests.evals.conftest import MERGING


@pytest.fixture
def lanes(checkpoints, open_session):
    base = open_session("llava_onevision", "preset=off")

    def make(*named, blind=False):
        def with_settings(settings):
            common = ["model.device=cpu", "generation.max_tokens=3", "preset=off"]
            return resolve(checkpoints("llava_onevision"), settings=[*common, *settings], environ={})

        return [Lane(v, base.under(v.config)) for v in variants(with_settings, [], named, blind)]

    return make


def as_questions(samples):
    return [lambda sample=sample: sample for sample in samples]


def run(lanes, samples, batch_size=8, results=None, **options):
    results = results or Results(None)
    batches = Runner(lanes, results, batch_size, **options).run(as_questions(samples))
    asked = [question for batch in batches for question in batch]
    records = {
        (question.keys[name][0], name): results.get(question.keys[name])
        for question in asked
        for name in question.keys
    }
    return records, summary(lanes, asked, results)


def test_batches_are_of_one_task_and_shape(samples):
    found = [[s.id for s in batch] for batch in alike(as_questions(samples), 2)]
    assert found == [["a", "b"], ["c"], ["d"], ["e"]]


def test_answers_are_those_of_single_questions(lanes, samples):
    off, merging = lanes(MERGING)
    records, _ = run([off, merging], samples, batch_size=2)
    for sample in samples:
        answers = {}
        for lane in (off, merging):
            answer = lane.session.ask(sample.prompt, sample.images, sample.videos, logits=True)
            record = records[sample.id, lane.variant.name]
            assert record["text"] == answer.text
            assert record["usage"]["visual"]["llm_kept"] == answer.usage.visual.llm_kept
            answers[lane.variant.name] = answer.logits.double()
        p, q = (answers[name].log_softmax(-1) for name in ("off", "merging"))
        assert records[sample.id, "merging"]["kl"] == pytest.approx(
            (p.exp() * (p - q)).sum().item(), rel=1e-3
        )
        assert records[sample.id, "off"]["kl"] is None


def test_agreement_and_accuracy(lanes, samples):
    off, merging = lanes(MERGING)
    texts = {s.id: off.session.ask(s.prompt, s.images, s.videos).text for s in samples}
    # let the reference be right where something is known
    known = [
        EvalSample(
            s.id, s.task, s.prompt, None if s.answer is None else texts[s.id], None, s.images, s.videos
        )
        for s in samples
    ]
    records, report = run([off, merging], known)
    same = sum(records[s.id, "off"]["text"] == records[s.id, "merging"]["text"] for s in known)
    whole = report["all"]["variants"]
    assert whole["off"]["accuracy"]["n"] == whole["off"]["accuracy"]["hits"] == 4
    assert (whole["merging"]["agreement"]["n"], whole["merging"]["agreement"]["hits"]) == (5, same)
    assert whole["merging"]["difference"]["n"] == 4
    assert whole["merging"]["difference"]["value"] == whole["merging"]["accuracy"]["value"] - 1
    assert list(report["tasks"]) == ["one", "two", "clip"]
    assert report["tasks"]["two"]["variants"]["merging"]["accuracy"] is None
    assert report["tasks"]["two"]["variants"]["merging"]["kl"] > 0
    assert whole["off"]["visual_tokens"]["llm_kept"] > whole["merging"]["visual_tokens"]["llm_kept"]


def test_peak_memory_is_that_of_one_question_of_each_kind(lanes, samples):
    records, report = run(lanes(MERGING), samples, batch_size=2)
    peaks = {key: r["peak_bytes_beyond_weights"] for key, r in records.items()}
    if any(peaks.values()):  # not everywhere can it be known
        assert {id for (id, _), peak in peaks.items() if peak is not None} == {"a", "d", "e"}
        highest = max(peak for (_, name), peak in peaks.items() if name == "off" and peak is not None)
        assert report["all"]["variants"]["off"]["peak_bytes_beyond_weights"] == highest
    assert all(record["seconds"] > 0 for record in records.values())


def test_blind_sees_nothing(lanes, samples):
    records, report = run(lanes(MERGING, blind=True), samples)
    assert report["all"]["variants"]["blind"]["visual_tokens"]["patches"] == 0
    assert all(records[s.id, "blind"]["media"] == [] for s in samples)
    assert report["variants"]["blind"]["blind"]


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_broken_question_is_a_record_and_the_others_go_on(where, lanes, samples, tmp_path):
    broken = EvalSample("broken", "one", "What?", "x", images=(str(tmp_path / "gone.png"),))
    mixed = [*samples[:where], broken, *samples[where:]]
    records, report = run(lanes(MERGING), mixed)
    alone, _ = run(lanes(MERGING), samples)
    for name in ("off", "merging"):
        assert records["broken", name]["status"] == "error"
        assert records["broken", name]["error"]["type"] == "MediaError"
        assert all(records[s.id, name]["text"] == alone[s.id, name]["text"] for s in samples)
    (failure,) = report["failed"]
    assert (failure["id"], failure["variants"]) == ("broken", ["off", "merging"])
    assert report["all"]["variants"]["merging"]["failed"] == 1


def test_only_what_is_missing_is_asked(lanes, samples, monkeypatch):
    asked = []
    ask_batch = Session.ask_batch

    def spy(self, requests, **options):
        asked.append((self.config.preset, bool(self.config.model_fields_set & {"vision"}), len(requests)))
        return ask_batch(self, requests, **options)

    results = Results(None)
    run(lanes(), samples, results=results)
    monkeypatch.setattr(Session, "ask_batch", spy)
    run(lanes(), samples, results=results)
    assert asked == []
    records, _ = run(lanes(MERGING), samples, results=results)
    # a first pass, each kind once for its memory, and the reference again for its logits, which are not kept
    passes = [("off", merged, n) for merged in (False, True) for n in (3, 1, 1)]
    assert sorted(asked) == sorted(passes + [("off", True, 1)] * 4)
    assert records["a", "merging"]["kl"] > 0


def test_survivors(lanes, samples):
    named = ["tower: vision={layers: [1], r: 10} layout=faithful", "llm: llm={layers: [2], keep: 0.5}"]
    records, report = run(lanes(*named, blind=True), samples, trace=True)
    for (id, name), record in records.items():
        kept = record["usage"]["visual"]["llm_kept"]
        if name == "blind":
            assert record["survivors"] is None
        else:
            assert sum(record["survivors"]["quarters"]) == kept
            assert ("frames" in record["survivors"]) == (id == "e")
            assert sum(record["survivors"].get("frames", [kept])) == kept
        assert record["batch_size"] == 1
    whole = report["all"]["variants"]
    assert whole["off"]["survivors"]["frames"]["3"] == pytest.approx([1 / 3] * 3)
    assert sum(whole["llm"]["survivors"]["quarters"]) == pytest.approx(1)
    assert whole["blind"]["survivors"] is None


def test_survivors_are_those_of_the_trace(lanes):
    """With one merge in the decoder, a token survives when it anchors a slot."""
    _, merging = lanes("llm: llm={layers: [2], keep: 0.5, queries: visual-literal}")
    sample = EvalSample("a", "t", "What?", None, images=(picture(84, 84, 1),))
    records, _ = run(
        lanes("llm: llm={layers: [2], keep: 0.5, queries: visual-literal}"), [sample], trace=True
    )
    answer = merging.session.ask(sample.prompt, sample.images, trace=True)
    start = int((answer.trace["kinds"][0] == 1).nonzero()[0])
    tokens = answer.usage.visual.llm_in
    ((_, merge),) = answer.trace["llm"]
    own = merge.anchor[0] - start
    newline = answer.trace["kinds"][0][start : start + tokens + 64] == 2
    assert not newline[:36].any()  # the overview's tokens come first
    rank = {int(i): n for n, i in enumerate((answer.trace["kinds"][0] == 1).nonzero().squeeze(1) - start)}
    quarters = [rank[int(i)] * 4 // tokens for i in own if int(i) in rank]
    counts = [quarters.count(q) for q in range(4)]
    assert records["a", "llm"]["survivors"]["quarters"] == counts
    assert torch.tensor(counts).sum() == answer.usage.visual.llm_kept
