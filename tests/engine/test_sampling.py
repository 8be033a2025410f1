"""A row's next token: against `transformers`' logits processors, and counts of many draws."""

import math

import pytest
import torch
import transformers

from illava_cli.config import GenerationOptions
from illava_cli.engine.sampling import Sampler, chosen, likeliest, narrowed
from illava_cli.errors import ModelError

VOCABULARY = 40
NOTHING = torch.zeros(VOCABULARY, dtype=torch.bool)


def scores(seed=0):
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 5},
        {"top_k": 1000},
        {"top_p": 0.7},
        {"top_p": 0.01},
        {"min_p": 0.1},
        {"top_k": 12, "top_p": 0.8, "min_p": 0.05},
    ],
)
def test_what_remains_is_what_transformers_leaves(settings):
    processors = {
        "top_k": transformers.TopKLogitsWarper,
        "top_p": transformers.TopPLogitsWarper,
        "min_p": transformers.MinPLogitsWarper,
    }
    for seed in range(20):
        expected = scores(seed)[None]
        for name, value in settings.items():
            expected = processors[name](value)(None, expected)
        found = narrowed(scores(seed), GenerationOptions(**settings))
        torch.testing.assert_close(found, expected[0])


def test_the_repetition_penalty_is_that_of_transformers():
    """It counts the prompt's tokens and the answer's."""
    sampler = Sampler(GenerationOptions(repetition_penalty=1.7), prompt=[3, 7, 7])
    for token in (1, 2, 3):
        sampler.accept(token)
    processor = transformers.RepetitionPenaltyLogitsProcessor(1.7)
    for seed in range(20):
        expected = processor(torch.tensor([[3, 7, 7, 1, 2, 3]]), scores(seed)[None])[0]
        torch.testing.assert_close(sampler._adjusted(scores(seed)), expected)


def test_presence_and_frequency_count_the_answer_alone():
    options = GenerationOptions(presence_penalty=0.5, frequency_penalty=0.25)
    sampler = Sampler(options, prompt=[9])
    for token in (4, 4, 4, 6):
        sampler.accept(token)
    expected = scores().clone()
    expected[4] -= 0.5 + 3 * 0.25
    expected[6] -= 0.5 + 0.25
    torch.testing.assert_close(sampler._adjusted(scores()), expected)


def test_a_bias_is_added():
    sampler = Sampler(GenerationOptions(logit_bias={5: 100, 6: -100, 1000: 1}))
    assert chosen(scores()[None], [sampler], NOTHING) == [5]


def test_draws_follow_the_distribution():
    options = GenerationOptions(temperature=0.8, top_k=6, seed=5)
    sampler = Sampler(options)
    probabilities = narrowed(scores() / 0.8, options).softmax(0)
    draws = 20_000
    counts = torch.bincount(
        torch.stack([sampler.choose(scores()) for _ in range(draws)]), minlength=VOCABULARY
    )
    assert counts[probabilities == 0].sum() == 0
    deviation = (counts / draws - probabilities) / (probabilities * (1 - probabilities) / draws).sqrt()
    assert deviation.nan_to_num().abs().max() < 4.5


def test_a_row_draws_from_a_stream_of_its_own():
    """Beside other rows, or none, it gives the same; another seed or number of answer gives others."""
    options = GenerationOptions(temperature=1.5, seed=3)

    def drawn(rows):
        samplers = [Sampler(options, stream=stream) for stream in rows]
        steps = [chosen(torch.stack([scores(step)] * len(rows)), samplers, NOTHING) for step in range(30)]
        return list(zip(*steps, strict=True))

    alone = drawn([0])[0]
    assert drawn([2, 0, 1])[1] == alone
    assert drawn([1])[0] != alone
    state = torch.random.get_rng_state()
    drawn([0])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_greedy_and_sampled_rows_share_a_pass():
    greedy, sampled = Sampler(GenerationOptions()), Sampler(GenerationOptions(temperature=1.0, top_k=1))
    logits = torch.stack([scores(1), scores(2)])
    assert chosen(logits, [greedy, sampled], NOTHING) == logits.argmax(-1).tolist()


def test_what_is_never_said_is_not_drawn():
    unspoken = torch.arange(VOCABULARY) != 11
    for temperature in (0.0, 5.0):
        sampler = Sampler(GenerationOptions(temperature=temperature, repetition_penalty=1.1))
        assert chosen(scores()[None], [sampler], unspoken) == [11]


def test_a_constraint_decides_what_may_come():
    class Even:
        def __init__(self):
            self.accepted = []

        def allowed(self):
            return torch.arange(VOCABULARY) % 2 == 0

        def accept(self, token):
            self.accepted.append(token)

    constraint = Even()
    for temperature in (0.0, 2.0):
        sampler = Sampler(GenerationOptions(temperature=temperature), constraint=constraint)
        for seed in range(20):
            (token,) = chosen(scores(seed)[None], [sampler], NOTHING)
            assert token % 2 == 0
        sampler.accept(token)
    assert len(constraint.accepted) == 2


@pytest.mark.parametrize("bad", [-torch.inf, torch.nan, torch.inf])
def test_scores_that_are_no_numbers_draw_nothing(bad):
    """No id beyond the vocabulary, at which a GPU's kernels would end the process."""
    with pytest.raises(ModelError, match="no numbers"):
        chosen(torch.full((1, VOCABULARY), bad), [Sampler(GenerationOptions(temperature=1.0))], NOTHING)


def test_log_probabilities_are_the_models_own():
    logits = torch.stack([scores(1), scores(2), scores(3)])
    told = likeliest(logits, [4, 5, 6], [2, None, 0])
    assert told[1] is None
    expected = logits.log_softmax(-1)
    assert told[0]["logprob"] == pytest.approx(expected[0, 4].item())
    assert [token for token, _ in told[0]["top"]] == expected[0].topk(2).indices.tolist()
    assert math.exp(told[0]["top"][0][1]) == pytest.approx(expected[0].max().exp().item())
    assert told[2]["top"] == []
