"""The server's page in Chromium: media come in, questions go out, answers stream."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.processes import ROOT
from tests.serve.fake_server import MERGED_TEXT, Canned, as_a_model
from tests.serve.on_page import (
    IDLE,
    QUESTION,
    SAID,
    TRAY,
    TROUBLE,
    address,
    ask,
    click,
    drop,
    media_of,
    opened,
    paste,
    png,
    wait_for_requests,
    write,
)

pytestmark = pytest.mark.needs("browser")
CLIP = ROOT / "illava_cli" / "assets" / "shapes.mp4"
NEW = "document.getElementById('new')"
A, B = ("a.png", "image/png", png(seed=1)), ("b.png", "image/png", png(seed=2))


def test_a_dropped_picture_is_sent_as_it_is_and_the_answer_shown(page, server):
    page = page()
    drop(page, A)
    assert page.js(TRAY) == ["a.png"]
    ask(page, "What is it?")
    (body,) = server.bodies
    parts = [
        {"type": "image_url", "image_url": {"url": address(A[2], "image/png")}},
        {"type": "text", "text": "What is it?"},
    ]
    assert body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": parts}],
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert page.js(SAID) == [MERGED_TEXT]
    assert page.js(TRAY) == []
    assert page.js("document.querySelector('.turn img').naturalWidth") == 40
    assert "224 of 729 visual tokens (31 %)" in page.js("document.querySelector('.cost').innerText")


def test_pasted_pictures_join_and_can_be_removed(page, server):
    page = page()
    assert paste(page, A) is False
    paste(page, B)
    assert page.js(TRAY) == ["a.png", "b.png"]
    page.js("document.querySelector('#tray button').click()")
    assert page.js(TRAY) == ["b.png"]
    ask(page)
    assert media_of(server.bodies[0]) == [address(B[2], "image/png")]


def test_what_a_word_processor_copies_is_pasted_as_text(page):
    page = page()
    assert paste(page, A, text="words") is True
    assert page.js(TRAY) == []


def test_a_chosen_clip_goes_as_video(page, server):
    page = page()
    page.choose("#files", CLIP)
    page.wait("document.querySelector('#tray video')?.readyState >= 2")
    ask(page)
    (part, _) = server.bodies[0]["messages"][0]["content"]
    assert part == {"type": "video_url", "video_url": {"url": address(CLIP.read_bytes(), "video/mp4")}}


def test_a_file_that_is_neither_is_refused_in_words(page):
    page = page()
    drop(page, ("notes.txt", "text/plain", b"x"), A)
    assert page.js(TROUBLE) == "notes.txt is neither a picture nor a clip."
    assert page.js(TRAY) == ["a.png"]


def test_an_answer_streams_piece_by_piece(page, server):
    server.answer = lambda body: Canned(("Été ", "🙂 ", "<b>bold</b>"), held=True)
    page = page()
    write(page, "Say it")
    page.press("enter")
    page.wait("document.querySelector('.waiting')")
    server.release()
    page.wait(f"{SAID}[0] === 'Été '")
    server.release()
    page.wait(f"{SAID}[0] === 'Été 🙂 '")
    assert page.js(f"{IDLE} || document.getElementById('ask').checkVisibility()") is False
    server.release()
    page.wait(IDLE)
    assert page.js(SAID) == ["Été 🙂 <b>bold</b>"]
    assert page.js("document.getElementById('status').textContent") == "Answer: Été 🙂 <b>bold</b>"


def test_a_second_turn_sends_the_whole_conversation(page, server):
    page = page()
    drop(page, A)
    ask(page, "What is it?")
    drop(page, B)
    ask(page, "And this?")
    first, second = server.bodies
    said = {"role": "assistant", "content": MERGED_TEXT}
    assert second["messages"][:2] == [*first["messages"], said]
    assert media_of(second) == [address(A[2], "image/png"), address(B[2], "image/png")]
    page.js(f"{NEW}.click()")
    assert page.js("document.querySelectorAll('.turn').length") == 0
    ask(page, "Hello")
    assert server.bodies[2]["messages"] == [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("how", ["escape", "button"])
def test_stop_ends_the_request_and_keeps_what_came(page, server, how):
    server.answer = lambda body: replace(as_a_model(body), held=True)
    page = page()
    write(page, "Go on")
    page.press("enter")
    server.release(2)
    page.wait(f"{SAID}[0] === 'A red'")
    page.press("escape") if how == "escape" else page.js("document.getElementById('stop').click()")
    assert server.gone.wait(60)
    page.wait(IDLE)
    assert page.js(SAID) == ["A red"]
    assert "You stopped it here." in page.js("document.querySelector('.notes').innerText")
    server.release(99)
    ask(page, "And then?")
    assert server.bodies[1]["messages"][1] == {"role": "assistant", "content": "A red"}


def test_a_question_stopped_before_its_answer_is_taken_back(page, server):
    server.answer = lambda body: Canned(held=True)
    page = page()
    drop(page, A)
    write(page, "What is it?")
    page.press("enter")
    wait_for_requests(page, server, 1)
    page.press("escape")
    page.wait(f"{QUESTION}.value === 'What is it?'")
    assert page.js(TRAY) == ["a.png"]
    assert page.js("document.querySelectorAll('.turn').length") == 0


def test_a_new_conversation_ends_the_request_of_the_old_one(page, server):
    server.answer = lambda body: replace(as_a_model(body), held=True)
    page = page()
    write(page, "Go on")
    page.press("enter")
    server.release()
    page.wait(f"{SAID}[0] === 'A'")
    page.js(f"{NEW}.click()")
    assert server.gone.wait(60)
    assert page.js(f"{IDLE} && {NEW}.hidden && {QUESTION}.value === ''")
    server.answer = as_a_model
    ask(page, "Hello")
    assert server.bodies[1]["messages"] == [{"role": "user", "content": "Hello"}]


def test_the_last_question_is_asked_again_in_its_place(page, server):
    page = page()
    ask(page, "One")
    click(page, "Ask again")
    wait_for_requests(page, server, 2)
    page.wait(IDLE)
    assert server.bodies[1] == server.bodies[0]
    assert page.js("document.querySelectorAll('.turn').length") == 1


def test_a_picture_above_the_server_s_pixels_is_scaled_down(page, server):
    server.limits = {"pixels": 10_000}
    page = page()
    drop(page, ("large.png", "image/png", png(400, 200)), A)
    ask(page)
    large, small = media_of(server.bodies[0])
    assert opened(large).size == (141, 70)
    assert page.js("[...document.querySelectorAll('.notes li')].map(li => li.innerText)") == [
        "large.png was scaled down to what the server takes."
    ]
    assert small == address(A[2], "image/png")


def test_a_picture_above_the_server_s_bytes_is_made_smaller(page, server):
    server.limits = {"media_bytes": 20_000}
    page = page()
    drop(page, ("noise.png", "image/png", png(400, 200)))
    ask(page)
    (sent,) = media_of(server.bodies[0])
    assert opened(sent).format == "JPEG"
    assert 5_000 < len(sent) * 3 / 4 < 20_100


def test_a_clip_above_the_server_s_bytes_is_refused_in_words(page, server):
    server.limits = {"media_bytes": 10_000}
    page = page()
    page.choose("#files", CLIP)
    page.wait(TROUBLE)
    assert page.js(TROUBLE) == "shapes.mp4 has 12 kB; the server takes 10 kB."
    assert page.js(TRAY) == []
