"""A source means the same at every door: the same bytes, or the same one-line refusal."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from illava_cli.batch.inputs import read_inputs
from illava_cli.cli.repl import sources as after_a_command
from illava_cli.errors import MediaError
from illava_cli.evals.taskfile import read_file
from illava_cli.media import expand_sources, locate, name_of, read_image
from illava_cli.media.sources import as_path, kind_of, local_path
from tests.media.server import serving
from tests.media_files import write_jpeg

# --- the doors: what each makes of the source that it is given, as something to locate ---------------


def flag(source: str) -> str:
    (found,) = expand_sources([source])
    return found


def chat(source: str) -> str:
    (word,) = after_a_command(shlex.quote(source), "/image")
    return flag(word)


def _item(inputs: list[str], **options) -> str:
    (item,) = read_inputs(inputs, ["?"], **options)
    images, videos = item.sources
    return [*images, *videos][0]


def batch_argument(source: str) -> str:
    return _item([source])


def batch_stdin(source: str) -> str:
    return _item(["-"], stdin=io.BytesIO(os.fsencode(source) + b"\0"), separator=b"\0")


def _manifest(line: dict) -> str:
    Path("m.jsonl").write_text(json.dumps(line))
    return _item(["m.jsonl"])


def jsonl(source: str) -> str:
    return _manifest({"image": source, "prompt": "?"})


def openai(source: str) -> str:
    content = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": source}}]
    return _manifest({"custom_id": "a", "body": {"messages": [{"role": "user", "content": content}]}})


def _csv(column: str, source: str) -> str:
    with open("m.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[column, "prompt"], [source, "?"]])
    return _item(["m.csv"])


def csv_cell(source: str) -> str:
    return _csv("image", source)


def csv_list(source: str) -> str:
    return _csv("images", source)


def task_file(source: str) -> str:
    Path("tasks.jsonl").write_text(json.dumps({"image": source, "prompt": "?", "answer": "a"}))
    ((_, sample),) = read_file(Path("tasks.jsonl"))
    return sample.images[0]


def python(source: str) -> str:
    return source


SEVERAL = (flag, chat, batch_argument)  # where a glob may stand
ONE = (python, batch_stdin, jsonl, openai, csv_cell, csv_list, task_file)


def outcome(door: Callable[[str], str], source: str) -> bytes | str:
    """What a door gives: the medium's bytes, or why not, without the name: a file's folder is added to it."""
    made = source
    try:
        made = door(source)
        found = locate(made)
    except MediaError as error:
        text = str(error)
        assert "\n" not in text
        for name in sorted({name_of(made), name_of(source), name_of(local(source))}, key=len, reverse=True):
            if text.startswith(name[:200]):
                return text[len(name[:200]) :]
        raise AssertionError(f"{door.__name__}: {text} does not begin with {name_of(made)}") from None
    return found.data if found.data is not None else found.path.read_bytes()


def local(source: str) -> str:
    try:
        return local_path(source)
    except MediaError:
        return source


def agreed(source: str, doors: Sequence[Callable[[str], str]]) -> bytes | str:
    """What all the doors give."""
    outcomes = {door.__name__: outcome(door, source) for door in doors}
    assert len(set(outcomes.values())) == 1, outcomes
    return next(iter(outcomes.values()))


def fits(source: str, door: Callable[[str], str]) -> bool:
    """Whether a form of file can hold a source at all."""
    if door not in (csv_cell, csv_list):
        return True
    if door is csv_list and kind_of(source) != "data" and ";" in source:
        return False
    # CSV is UTF-8, and blanks around a cell are none of it
    return "\udcff" not in source and source == source.strip()


# --- names ------------------------------------------------------------------------------------------

ODD = st.sampled_from(
    [*"aZ0 .~-%#?*[]'\"\\:;,@&+=!$(){}|<>\n\té猫", "%41", "data:", "http:", "file:", "\udcff"]
)
NAMES = st.lists(ODD, min_size=1, max_size=8).map("".join).map(lambda name: f"{name}.png")
FEW = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# a path, written in the ways that there are
FORMS: dict[str, Callable[[str], str]] = {
    "bare": lambda name: name if kind_of(name) == "path" else as_path(name),
    "dot": lambda name: f"./{name}",
    "whole": os.path.abspath,
    "file": lambda name: f"file:{quote(os.fsencode(name), safe='')}",
    "uri": lambda name: Path(name).absolute().as_uri(),
    "localhost": lambda name: Path(name).absolute().as_uri().replace("file://", "FILE://LocalHost"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path


@FEW
@given(name=NAMES, form=st.sampled_from([*FORMS]))
def test_a_file_of_any_name_is_read_at_every_door(here, name, form):
    source, data = FORMS[form](name), name.encode(errors="surrogatepass")
    Path(name).write_bytes(data)
    try:
        doors = tuple(door for door in (*SEVERAL, *ONE) if fits(source, door))
        assert agreed(source, doors) == data
    finally:
        Path(name).unlink()


@FEW
@given(name=NAMES, form=st.sampled_from([*FORMS]))
def test_a_file_that_is_not_there_is_refused_alike(here, name, form):
    source = FORMS[form](name)
    refusal = agreed(source, [door for door in ONE if fits(source, door)])
    assert "no such file" in refusal
    other = agreed(source, SEVERAL)
    assert other == refusal or "no file matches" in other


@FEW
@given(
    data=st.binary(min_size=1, max_size=200),
    head=st.sampled_from(["", "image/png", "image/png;name=a b", "IMAGE/PNG;charset=x"]),
    how=st.sampled_from(["plain", "wrapped", "bare", "url-safe", "escaped", "spaced", "percent"]),
)
def test_data_urls_are_read_at_every_door(here, data, head, how):
    text = base64.b64encode(data).decode()
    ways = {
        "plain": f";base64,{text}",
        "wrapped": f";base64,{base64.encodebytes(data).decode()}",
        "bare": f";base64,{text.rstrip('=')}",
        "url-safe": f";BASE64,{base64.urlsafe_b64encode(data).decode()}",
        "escaped": f";base64,{quote(text, safe='')}",
        "spaced": f"; base64, {text}",
        "percent": f",{quote(data)}",
    }
    source = f"data:{head}{ways[how]}"
    assert agreed(source, (*SEVERAL, *ONE)) == data


@pytest.mark.parametrize(
    "source",
    [
        "data:image/png;base64,A",
        "data:image/png;base64,AAA*",
        "data:image/png;base64,AA=A",
        "data:image/png;base64,",
        "data:image/png;base64",
        "data:image/png;base64,caf\u00e9",
        "data:,",
        "file://elsewhere/x.png",
        "file:///nowhere/x.png",
        "file:",
        "file:%00.png",
        "http://",
        "http://[::1/x.png",
        "https://jo:secret@[::1/x.png",
        "ftp://host/x.png",
        "s3://bucket/x.png",
        "~nobody-of-that-name/x.png",
        "a\0b.png",
        "x" * 5000 + ".png",
        "\ud800.png",
        "folder",
    ],
)
def test_what_cannot_be_read_is_refused_alike(here, source):
    Path("folder").mkdir()
    doors = [*SEVERAL, *ONE]
    if source == "folder":
        doors.remove(batch_argument)  # which takes folders
    if any(character in source for character in "\0\ud800"):  # not to be had there
        doors = [door for door in doors if door not in (batch_stdin, csv_cell, csv_list)]
    refusal = agreed(source, doors)
    assert isinstance(refusal, str)
    assert "secret" not in refusal
    assert len(refusal) < 400


def test_home_is_the_same_at_every_door(here):
    (here / "home" / "my pictures").mkdir()
    (here / "home" / "my pictures" / "a.png").write_bytes(b"home")
    assert agreed("~/my pictures/a.png", (*SEVERAL, *ONE)) == b"home"
    assert flag("~/my*/?.png") == str(here / "home" / "my pictures" / "a.png")
    Path("~", "my pictures").mkdir(parents=True)
    Path("~", "my pictures", "a.png").write_bytes(b"there")  # what is there is meant first
    assert agreed("~/my pictures/a.png", (*SEVERAL, *ONE)) == b"there"


def test_relative_file_urls_are_relative_to_the_folder_of_their_file(here, monkeypatch):
    (here / "a.png").write_bytes(b"a")
    Path("m.jsonl").write_text(json.dumps({"image": "file:a.png", "prompt": "?"}))
    monkeypatch.chdir(here / "home")
    (item,) = read_inputs(["../m.jsonl"], [])
    assert locate(item.sources[0][0]).path.read_bytes() == b"a"
    for written in ("file:../m.jsonl", (here / "m.jsonl").as_uri()):
        assert len(read_inputs([written], [])) == 1


def test_a_raw_mark_in_a_file_url_is_part_of_a_name_that_is_there(here):
    for name in ("a#b?c.png", "d.png"):
        Path(name).write_bytes(name.encode())
    assert agreed(f"file://{here}/a#b?c.png", (*SEVERAL, *ONE)) == b"a#b?c.png"
    assert agreed(f"file://{here}/d.png?size=9#t=1", (*SEVERAL, *ONE)) == b"d.png"


def test_what_a_glob_or_a_folder_finds_is_a_file_whatever_its_name(here):
    names = ["-.png", "data:,x.png", "file:x.png", "~root.png", "~.png"]
    Path("in").mkdir()
    for name in names:
        Path(name).write_bytes(name.encode())
    found = expand_sources(["*.png"])
    assert sorted(locate(source).path.name for source in found) == sorted(names)
    items = read_inputs(["."], ["?"])
    assert sorted(locate(item.sources[0][0]).path.name for item in items) == sorted(names)
    Path("-").write_bytes(b"minus")
    (item,) = read_inputs(["-"], ["?"], stdin=io.BytesIO(b"-\n"))
    assert locate(item.sources[0][0]).path.read_bytes() == b"minus"


def test_a_path_object_is_a_path(here):
    Path("file:x").write_bytes(b"x")
    assert locate(Path("file:x")).path.read_bytes() == b"x"


@settings(FEW, max_examples=40)
@given(name=st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="?#%/\\"), min_size=1))
def test_an_address_of_any_letters_is_asked_for_as_it_is(echo, name):
    if name.strip(" .\u00a0\u3000") == "" or name != name.strip():
        return
    assert locate(f"{echo}/{name}").data.decode() == f"/{name}"


@pytest.fixture(scope="module")
def echo():
    """A server that answers with the path that it was asked for."""
    with pytest.MonkeyPatch.context() as patch, serving() as site:
        patch.setenv("NO_PROXY", "127.0.0.1")

        def answer(request) -> None:
            request.send_response(200)
            request.end_headers()
            request.wfile.write(unquote_to_bytes(request.path))

        site.otherwise = answer
        yield site.address


def test_pictures_in_data_urls_are_what_they_are_in_files(here):
    data = base64.b64encode(write_jpeg("a.jpg").read_bytes()).decode()
    medium = read_image(f"data:image/jpeg;base64,{data}")
    assert (medium.source, medium.width, medium.height) == ("<data:image/jpeg;base64>", 64, 48)
