"""On a GPU: the same answers as on the CPU, and a forward pass that never waits for the host."""

import pytest
import torch

from illava_cli.engine import prompt as prompts
from illava_cli.engine.batching import Row, assemble
from illava_cli.engine.session import Request
from illava_cli.models.hf import CACHE
from illava_cli.visualize.attention import heat, shares
from illava_cli.visualize.places import places
from illava_cli.visualize.stages import stages
from illava_cli.visualize.way import Way
from tests.conftest import IMAGES_ONLY, clip, picture
from tests.schedules import SCHEDULES

pytestmark = pytest.mark.gpu


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
        counts = len(request.images), len(request.videos)
        user = prompts.user_message(family, request.prompt, *counts)
        prepared.append(session.prepare(request))
        parts.append(prompts.first_turn(family, user, None, *counts))
    points = family.merge_points(session.reduction, "image")

    def prefill():
        rows = []
        for request, pieces in zip(prepared, parts, strict=True):
            encoded = family.encode([pixels for _, pixels in request.slots.values()], session.reduction)
            by_slot = dict(zip(request.slots, encoded, strict=True))
            rows.append(Row([by_slot.get(p, p) if not isinstance(p, list) else p for p in pieces]))
        embeds, plan = assemble(family, rows, points, packed=family.rope_axes == 1)
        cache = session._new_cache()
        cache.expect(plan)
        return family.text_model(inputs_embeds=embeds, **{CACHE: cache}).last_hidden_state

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
