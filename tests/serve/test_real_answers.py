"""What the server answers is what a session in this process answers, by each way of asking."""

from __future__ import annotations

import json

import openai
import pytest

from tests.serve.asking_both import QUESTIONS, asked, gathered

pytest.importorskip("openai", reason="needs openai: pip install openai")


@pytest.fixture(scope="module")
def expected(tiny_session):
    """The answers in this process, by question."""
    return {name: question.asked_of(tiny_session) for name, question in QUESTIONS.items()}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_whole_answer_is_the_sessions(real, expected, name):
    answer = real.client().chat.completions.create(**asked(QUESTIONS[name]))
    (choice,) = answer.choices
    usage, own = answer.usage, expected[name].usage
    assert (choice.message.content, choice.finish_reason) == (expected[name].text, "stop")
    assert (usage.prompt_tokens, usage.completion_tokens) == (own.prompt_tokens, own.completion_tokens)
    assert usage.visual_tokens["llm_kept"] == own.visual.llm_kept
    assert (
        usage.visual_tokens["saved"] == own.visual.unmerged - own.visual.llm_kept - own.visual.newlines_kept
    )


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_streamed_answer_is_the_sessions(real, expected, name):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(real.client().chat.completions.create(**asked(QUESTIONS[name]), **options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == expected[name].text
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == expected[name].usage.completion_tokens


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_response_is_the_sessions_whole_and_streamed(real, expected, name):
    client, items = real.client(), QUESTIONS[name].items
    whole = client.responses.create(model="tiny", input=items)
    events = list(client.responses.create(model="tiny", input=items, stream=True))
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert whole.output_text == deltas == events[-1].response.output_text == expected[name].text
    assert (whole.status, events[-1].type) == ("completed", "response.completed")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    usage = expected[name].usage
    assert whole.usage.input_tokens == usage.prompt_tokens
    assert whole.usage.output_tokens == usage.completion_tokens


def test_many_tasks_of_the_asynchronous_client_get_their_own_answers(real, expected):
    import asyncio

    async def all_of_them():
        async with real.client(kind=openai.AsyncOpenAI) as client:

            async def whole(name):
                answer = await client.chat.completions.create(**asked(QUESTIONS[name]))
                return answer.choices[0].message.content

            async def streamed(name):
                text = ""
                async for chunk in await client.chat.completions.create(
                    **asked(QUESTIONS[name]), stream=True
                ):
                    text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                return text

            names = [*QUESTIONS] * 2
            return names, await asyncio.gather(*map(whole, names), *map(streamed, names))

    names, answers = gathered(all_of_them)
    assert answers == [expected[name].text for name in names] * 2


def test_the_stream_is_events_to_the_letter(real, expected):
    with real.client().chat.completions.with_streaming_response.create(
        **asked(QUESTIONS["image"]), stream=True
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        events = "".join(answer.iter_text()).split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    for event in events[:-2]:
        assert json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk"


def test_pictures_seen_before_are_not_encoded_again(real):
    question, client = QUESTIONS["images"], real.client()
    client.chat.completions.create(**asked(question))
    before = real.figures()
    again = client.chat.completions.create(**asked(question))
    after = real.figures()
    assert again.usage.visual_tokens["reused"] == 3
    assert after['media_total{how="reused"}'] - before['media_total{how="reused"}'] == 3
    assert after['media_total{how="encoded"}'] == before['media_total{how="encoded"}']


def test_the_figures_are_the_usage(real):
    before = real.figures()
    answers = [
        real.client().chat.completions.create(**asked(QUESTIONS[name]), n=2) for name in ("image", "both")
    ]
    after = real.figures()

    def grown(name):
        return after[name] - before[name]

    usages = [answer.usage for answer in answers]
    assert grown("prompt_tokens_total") == sum(usage.prompt_tokens for usage in usages)
    assert grown("completion_tokens_total") == sum(usage.completion_tokens for usage in usages)
    assert grown("saved_tokens_total") == sum(usage.visual_tokens["saved"] for usage in usages)
    assert grown('visual_tokens_total{stage="unmerged"}') == sum(u.visual_tokens["unmerged"] for u in usages)
    assert grown('requests_total{endpoint="/v1/chat/completions",status="200"}') == 2
    assert grown("time_to_first_token_seconds_count") == grown("request_seconds_count") == 2
    assert all(len(answer.choices) == 2 for answer in answers)
