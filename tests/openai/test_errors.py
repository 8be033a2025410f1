"""Failures in OpenAI's form: as their own client reads them, and without what is no client's affair."""

import pytest

from illava_cli.errors import (
    Cancelled,
    ContextError,
    MediaError,
    MergeError,
    ModelError,
    OutOfMemory,
    Timeout,
    UsageError,
    WorkerError,
)
from illava_cli.openai.errors import RequestError, error_body, error_headers

openai = pytest.importorskip("openai", reason="needs openai: pip install openai")
httpx = pytest.importorskip("httpx", reason="needs httpx: pip install httpx")

SEEN = [
    (RequestError("n: at most 8", "n"), 400, "invalid_request_error", None, openai.BadRequestError),
    (
        RequestError("no key", code="invalid_api_key", status=401),
        401,
        "authentication_error",
        "invalid_api_key",
        openai.AuthenticationError,
    ),
    (
        RequestError("no model x", "model", "model_not_found", 404),
        404,
        "not_found_error",
        "model_not_found",
        openai.NotFoundError,
    ),
    (RequestError("full", status=429, retry_after=2), 429, "rate_limit_error", None, openai.RateLimitError),
    (RequestError("too long", status=413), 413, "invalid_request_error", None, openai.APIStatusError),
    (UsageError("preset x"), 400, "invalid_request_error", None, openai.BadRequestError),
    (MediaError("a.jpg: broken"), 400, "invalid_request_error", "invalid_media", openai.BadRequestError),
    (ContextError("long"), 400, "invalid_request_error", "context_length_exceeded", openai.BadRequestError),
    (Timeout("slow"), 504, "server_error", "timeout", openai.InternalServerError),
    (OutOfMemory("full"), 503, "server_error", "out_of_memory", openai.InternalServerError),
    (Cancelled("over"), 503, "server_error", "cancelled", openai.InternalServerError),
]


@pytest.mark.parametrize(("error", "status", "kind", "code", "seen"), SEEN)
def test_each_has_its_status_and_type(error, status, kind, code, seen):
    found, body = error_body(error)
    assert found == status
    param = getattr(error, "param", None)
    assert body == {"error": {"message": str(error), "type": kind, "param": param, "code": code}}

    def answer(request):
        return httpx.Response(status, json=body, headers=error_headers(error))

    http = httpx.Client(transport=httpx.MockTransport(answer))
    client = openai.OpenAI(api_key="-", base_url="http://server/v1", http_client=http, max_retries=0)
    with pytest.raises(seen) as raised:
        client.models.list()
    assert (raised.value.code, raised.value.param, raised.value.type) == (code, param, kind)
    assert str(error) in str(raised.value)


@pytest.mark.parametrize("error", [ModelError("/secret"), MergeError("x"), WorkerError("x"), KeyError("x")])
def test_bugs_and_broken_models_tell_no_details(error):
    status, body = error_body(error)
    assert (status, body["error"]["type"]) == (500, "server_error")
    assert str(error) not in body["error"]["message"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "frames (--num-frames), tiles (--max-tiles), pixels (--max-pixels)",
            "frames (num_frames), tiles (max_tiles), pixels (max_pixels)",
        ),
        ("a.jpg: scale it down (--max-megapixels raises the limit)", "a.jpg: scale it down"),
        ("a.mp4: a video; give it with --video", "a.mp4: a video; give it with video_url"),
        ("try another (--video-backend pyav)", "try another"),
    ],
)
def test_flags_are_no_clients_affair(said, told):
    assert error_body(MediaError(said))[1]["error"]["message"] == told


def test_who_may_ask_again_is_told_when():
    assert error_headers(RequestError("full", status=429, retry_after=0.2)) == {"Retry-After": "1"}
    assert error_headers(Timeout("slow")) == {"x-should-retry": "false"}
    assert error_headers(MediaError("broken")) == {}
