"""The harness's messages become the question that a person would have asked the session."""

import pytest
from PIL import Image

from illava_cli.errors import UsageError
from illava_cli.integrations.lmms.messages import to_query

A, B, C = (Image.new("RGB", (size, size)) for size in (4, 5, 6))


def text(value):
    return {"type": "text", "text": value}


def image(url):
    return {"type": "image", "url": url}


def video(url, **times):
    return {"type": "video", "url": url} | times


def asked(*content, system=None):
    messages = [{"role": "system", "content": system}] if system else []
    return to_query([*messages, {"role": "user", "content": list(content)}], "q").request


def test_media_before_the_text_are_left_to_the_chat_template():
    request = asked(image(A), image(B), text("Same?"), text(" Or not?"))
    assert (request.prompt, request.images, request.videos) == ("Same? Or not?", (A, B), ())
    assert request.id == "q"
    assert request.system is None


def test_media_within_the_text_are_marked_in_their_places():
    request = asked(text("First "), image(A), text(", then "), video("b.mp4"), image(C), text(": which?"))
    assert request.prompt == "First <image>, then <video><image>: which?"
    assert (request.images, request.videos) == ((A, C), ("b.mp4",))


def test_a_video_before_an_image_stays_before_it():
    assert asked(video("b.mp4"), image(A), text("?")).prompt == "<video><image>?"
    assert asked(image(A), video("b.mp4"), text("?")).prompt == "?"


def test_markers_of_the_task_place_its_media():
    assert asked(image(A), image(B), text("Is <image> like <image>?")).prompt == "Is <image> like <image>?"
    assert asked(image(A), image(B), text("What of <image>?")).prompt == "What of <image>?"


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        ([text("What does <image> mean in HTML?")], r"What does \<image> mean in HTML?"),
        ([image(A), text("Is <image> like <image>?")], r"Is \<image> like \<image>?"),
        ([image(A), text("Is <image> a <video>?")], r"Is <image> a \<video>?"),
        ([image(A), text(r"Is it \<image>?")], r"Is it \<image>?"),
        ([text(r"The tag \<image>: "), image(A)], r"The tag \<image>: <image>"),
        ([text("C:\\"), image(A), text("?")], r"C:\\<image>?"),
        ([text("The tag <im"), text("age>: "), image(A)], r"The tag \<image>: <image>"),
        ([text("The tag <image>: "), image(A)], r"The tag \<image>: <image>"),
    ],
)
def test_markers_without_a_medium_are_text(content, prompt):
    assert asked(*content).prompt == prompt


@pytest.mark.parametrize("system", ["Be brief.", [text("Be "), text("brief.")]])
def test_the_system_prompt_is_kept(system):
    assert asked(text("?"), system=system).system == "Be brief."


def test_content_may_be_a_plain_string():
    assert to_query([{"role": "user", "content": "Why?"}]).request.prompt == "Why?"


def test_media_may_come_as_dicts():
    request = asked(
        image({"bytes": b"png", "path": None}), image({"bytes": None, "path": "a.png"}), text("?")
    )
    assert request.images == (b"png", "a.png")


def test_frames_are_one_video():
    assert asked(video([A, B]), text("?")).videos == ([A, B],)


@pytest.mark.parametrize(
    "clip",
    [
        video("a.mp4", start_time=1.5, end_time=4.0),
        video({"path": "a.mp4", "video_start": 1.5, "video_end": 4.0}),
    ],
)
def test_a_video_may_be_cut(clip):
    query = to_query([{"role": "user", "content": [clip, text("?")]}])
    assert (query.request.videos, query.start, query.end) == (("a.mp4",), 1.5, 4.0)


@pytest.mark.parametrize(
    ("messages", "what"),
    [
        ([{"role": "assistant", "content": "Blue."}], "earlier answer"),
        ([{"role": "user", "content": [{"type": "audio", "url": "a.wav"}]}], "without audio"),
        ([{"role": "user", "content": [image({"name": "a.png"})]}], "neither bytes nor a path"),
        (
            [{"role": "user", "content": [video("a", start_time=1), video("b", start_time=2)]}],
            "different times",
        ),
    ],
)
def test_what_these_models_do_not_take_is_refused(messages, what):
    with pytest.raises(UsageError, match=what):
        to_query(messages)
