"""Many questions, in batches of the same decoding options, each answered as it would be alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from illava_cli.engine.record import Generation
from illava_cli.engine.session import Request, Session
from illava_cli.errors import IllavaError
from illava_cli.integrations.lmms.messages import Query, to_query

Failed = Callable[[str, IllavaError], None]


@dataclass(frozen=True)
class Question:
    """One question of a task; its media are read when its turn comes."""

    id: str
    messages: Callable[[], Sequence[dict[str, Any]]]
    generation: dict[str, Any]  # fields of `GenerationOptions`


def stop_at(id: str, error: IllavaError) -> None:
    """The answer to a failure that ends the run: the same error, with the question's name."""
    raise type(error)(f"{id}: {error}") from None


def answer_all(
    session: Session,
    questions: Sequence[Question],
    batch_size: int,
    advance: Callable[[int], None] = lambda count: None,
    failed: Failed = stop_at,
) -> list[Generation | None]:
    """The answers, in the questions' order.

    Every sampled batch has a seed of its own, so that a question asked several times is answered anew.

    Args:
        advance: told how many questions are done.
        failed: told of a question that has no answer (broken media, too long); where it returns, the answer
            is None.
    """
    answers: list[Generation | None] = [None] * len(questions)
    for number, batch in enumerate(_batches(questions, batch_size)):
        generation = dict(questions[batch[0]].generation)
        if generation.get("temperature", session.config.generation.temperature) > 0:
            generation["seed"] = generation.get("seed", session.config.generation.seed) + number
        for (start, end), indices, requests in _by_span(questions, batch, failed):
            answered = _ask(_under(session, generation, {"start": start, "end": end}), requests, failed)
            for index, answer in zip(indices, answered, strict=True):
                answers[index] = answer
        advance(len(batch))
    return answers


def _batches(questions: Sequence[Question], size: int) -> Iterator[list[int]]:
    """Indices of questions that share their decoding options, `size` at a time."""
    groups: dict[str, list[int]] = {}
    for index, question in enumerate(questions):
        groups.setdefault(json.dumps(question.generation, sort_keys=True), []).append(index)
    for indices in groups.values():
        yield from (indices[at : at + size] for at in range(0, len(indices), size))


def _by_span(
    questions: Sequence[Question], batch: Sequence[int], failed: Failed
) -> Iterator[tuple[tuple[float | None, float | None], list[int], list[Request]]]:
    """A batch's requests, those apart whose videos are cut at other times: `(span, indices, requests)`."""
    spans: dict[tuple, dict[int, Query]] = {}
    for index in batch:
        question = questions[index]
        try:
            query = to_query(question.messages(), question.id)
        except IllavaError as error:
            failed(question.id, error)
            continue
        spans.setdefault((query.start, query.end), {})[index] = query
    for span, queries in spans.items():
        yield span, list(queries), [query.request for query in queries.values()]


def _ask(session: Session, requests: list[Request], failed: Failed) -> list[Generation | None]:
    """A pass for all; where it fails, each is asked alone, so that one broken picture costs one answer."""
    try:
        return list(session.ask_batch(requests))
    except IllavaError as error:
        if len(requests) == 1:
            failed(requests[0].id, error)
            return [None]
    return [answer for request in requests for answer in _ask(session, [request], failed)]


def _under(session: Session, generation: dict[str, Any], media: dict[str, Any]) -> Session:
    """The session under other settings; what it has encoded stays."""
    groups = {"generation": generation, "media": media}
    return session.updated(
        [
            f"{group}.{name}={json.dumps(value, ensure_ascii=False)}"
            for group, options in groups.items()
            for name, value in options.items()
            if value is not None
        ]
    )
