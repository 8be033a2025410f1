"""On a GPU: the same answers as on the CPU, and a forward pass that never waits for the host."""

import pytest
import torch

from illava_cli.engine import prompt as prompts
from illava_cli.engine.assemble import Row, Shown, assemble
from illava_cli.engine.closing import Room
from illava_cli.engine.record import Generation
from illava_cli.engine.session import Request
from illava_cli.models import decoder, decoder_merge, tower
from illava_cli.models.encoder import encode
from illava_cli.reduction import received_attention
from illava_cli.visualize.attention import heat, shares
from illava_cli.visualize.places import places
from illava_cli.visualize.stages import stages
from illava_cli.visualize.way import Way
from tests.conftest import IMAGES_ONLY, WRITERS, clip, picture
from tests.schedules import SCHEDULES

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("exact_float32")]


def requests_to(family: str) -> list[Request]:
    """Two that a family can be asked in one batch."""
    videos = [] if family in IMAGES_ONLY else [clip(3, 60, 60)]
    return [
        Request("What?", [picture(200, 150, 2)]),
        Request("And this one, then?", [picture(90, 90, 3)], videos),
    ]


@pytest.mark.parametrize("name", SCHEDULES)
def test_cuda_equals_cpu(name, open_session):
    family, settings = SCHEDULES[name]
    answers = []
    for device in ("cpu", "cuda"):
        session = open_session(family, *settings, f"model.device={device}", "model.dtype=float32")
        assert session.family.device.type == device
        answers.append(session.ask_batch(requests_to(family), logits=True))
    for cpu, cuda in zip(*answers, strict=True):
        torch.testing.assert_close(cuda.logits, cpu.logits, atol=1e-3, rtol=0)
        assert cuda.usage == cpu.usage


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_batch_answers_as_single_questions_do(name, open_session):
    family, settings = SCHEDULES[name]
    session = open_session(family, *settings, "model.device=cuda", "model.dtype=float32")
    session.features.clear()
    together = session.ask_batch(requests_to(family), logits=True)
    for request, answer in zip(requests_to(family), together, strict=True):
        session.features.clear()
        alone = session.ask(request.prompt, request.images, request.videos, logits=True)
        torch.testing.assert_close(answer.logits, alone.logits, atol=1e-3, rtol=0)
        assert answer.usage == alone.usage


@pytest.mark.parametrize("name", SCHEDULES)
def test_eager_attention_equals_sdpa(name, open_session):
    """In float32, where SDPA has a kernel of its own and merge layers give no log-sum-exp."""
    family, settings = SCHEDULES[name]
    sdpa, eager = (
        open_session(
            family, *settings, "model.device=cuda", "model.dtype=float32", f"model.attn={attn}"
        ).ask_batch(requests_to(family), logits=True)
        for attn in ("sdpa", "eager")
    )
    for one, other in zip(sdpa, eager, strict=True):
        torch.testing.assert_close(other.logits, one.logits, atol=1e-3, rtol=0)
        assert other.usage == one.usage


ATTENTION = ["sdpa", "eager", pytest.param("flash_attention_2", marks=pytest.mark.needs("FlashAttention"))]


@pytest.mark.parametrize("attn", ATTENTION)
@pytest.mark.parametrize("family", WRITERS)
def test_bfloat16_without_merging_answers_like_float32(family, attn, open_session):
    settings = ("preset=off", "generation.max_tokens=2", "model.device=cuda")
    exact = open_session(family, *settings, "model.dtype=float32").ask_batch(requests_to(family), logits=True)
    session = open_session(family, *settings, "model.dtype=bfloat16", f"model.attn={attn}")
    for wide, narrow in zip(exact, session.ask_batch(requests_to(family), logits=True), strict=True):
        assert narrow.usage.prompt_tokens == wide.usage.prompt_tokens
        assert torch.cosine_similarity(narrow.logits.float(), wide.logits.float(), dim=0) > 0.95


@pytest.mark.parametrize("attn", ATTENTION)
@pytest.mark.parametrize("name", SCHEDULES)
def test_scores_in_a_bfloat16_model_equal_float64(name, attn, open_session, monkeypatch):
    """Answers would not tell: where scores lie close, rounding alone changes who stays."""
    family, settings = SCHEDULES[name]
    scored = []

    def checked(query, key, *, lse, **options):
        scores = received_attention(query, key, **options, lse=lse)
        exact = received_attention(query.double(), key.double(), **options)
        torch.testing.assert_close(scores.double(), exact, atol=1e-3, rtol=1e-3)
        scored.append(lse is not None)
        return scores

    for module in (tower, decoder_merge):
        monkeypatch.setattr(module, "received_attention", checked)
    session = open_session(
        family, *settings, "model.device=cuda", "model.dtype=bfloat16", f"model.attn={attn}"
    )
    session.features.clear()
    answers = session.ask_batch(requests_to(family))
    assert len(scored) >= 3
    exact = open_session(family, *settings).ask_batch(requests_to(family))
    assert [counts(answer) for answer in answers] == [counts(answer) for answer in exact]


def counts(answer: Generation) -> tuple[int, ...]:
    """What the schedule decides; under variant `authors` newlines rank too, of which it decides the sum."""
    visual = answer.usage.visual
    return visual.patches, visual.vision_kept, visual.llm_in, visual.llm_kept + visual.newlines_kept


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])  # 16-bit layers give their log-sum-exp
@pytest.mark.parametrize("name", SCHEDULES)
def test_tower_and_decoder_never_synchronise(name, dtype, open_session):
    family_key, settings = SCHEDULES[name]
    session = open_session(family_key, *settings, "model.device=cuda", f"model.dtype={dtype}")
    family = session.family
    assert family.device.type == "cuda"
    session.features.clear()
    prepared, parts = [], []
    for request in requests_to(family_key):
        user = prompts.user_message(family, request.prompt, *request.counts)
        prepared.append(session.prepare(request))
        markers = prompts.markers_of(family, prepared[-1].slots)
        parts.append(prompts.first_turn(family, user, None, markers))
    points = dict(session.schedules["image"].decoder)

    def prefill():
        rows = []
        for request, pieces in zip(prepared, parts, strict=True):
            media = [one.pixels for one in request.slots.values()]
            encoded = encode(family, media, [session.schedules[one.kind] for one in media])
            by_slot = dict(zip(request.slots, encoded, strict=True))
            rows.append(
                Row(
                    [p if isinstance(p, list) else Shown(p.medium, by_slot[p.medium]) for p in pieces],
                    room=Room.of(10**6, 512, 0),
                )
            )
        new, _ = assemble(family, rows, points, packed=family.rope_axes == 1)
        hidden_states, _ = decoder.drained(decoder.prefill(family.layers, new, session.runner.new_cache()))
        return hidden_states

    with torch.inference_mode():
        prefill()  # kernels are chosen and memory is taken once
        torch.cuda.set_sync_debug_mode("error")
        try:
            hidden_states = prefill()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert hidden_states.isfinite().all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_trace_is_that_of_the_cpu(name, open_session):
    family, settings = SCHEDULES[name]
    found = []
    for device in ("cpu", "cuda"):
        session = open_session(family, *settings, f"model.device={device}", "model.dtype=float32")
        answer = session.ask("What?", [picture(200, 150, 2)], trace="attention")
        where = places(answer.trace)
        way = Way(answer.trace)
        found.append((stages(way, where.padding), list(heat(way, where.padding)), shares(way)))
    (cpu, cpu_heat, cpu_shares), (cuda, cuda_heat, cuda_shares) = found
    assert [(s.name, s.tokens.counts()) for s in cpu] == [(s.name, s.tokens.counts()) for s in cuda]
    assert cuda_heat[0].values == pytest.approx(cpu_heat[0].values, abs=1e-4)
    assert cuda_shares["visual"][0] == pytest.approx(cpu_shares["visual"][0], abs=1e-3)
