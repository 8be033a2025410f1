"""What the command line names, as items: ids, kinds, prompts, and what is refused."""

import base64
import io
import json
import os
import re
import socket

import pytest

from illava_cli.batch.inputs import read_inputs
from illava_cli.errors import MediaError, UsageError
from tests.media_files import remux, write_clip


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder with two pictures, a clip, a file of another kind, a hidden one, and a folder below."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    (folder / "2024").mkdir(parents=True)
    for name in ("b.JPG", "a.png", "clip.mp4", "notes.txt", ".hidden.jpg", "2024/c.webp"):
        (folder / name).write_bytes(b"x")
    return folder


def ids(items):
    return [item.id for item in items]


def test_a_folder_is_its_pictures_and_clips_by_name(photos):
    notes = []
    items = read_inputs(["photos/"], ["What?"], on_note=notes.append)
    assert ids(items) == ["photos/a.png", "photos/b.JPG", "photos/clip.mp4"]
    assert [(item.images, item.videos) for item in items] == [
        (("photos/a.png",), ()),
        (("photos/b.JPG",), ()),
        ((), ("photos/clip.mp4",)),
    ]
    assert {item.prompt for item in items} == {"What?"}
    assert notes == ["photos/: 1 file is no image or video by name"]


def test_recursive(photos):
    assert "photos/2024/c.webp" in ids(read_inputs(["photos"], ["?"], recursive=True))


def test_an_empty_folder_names_the_flag_that_looks_deeper(photos):
    above = photos.parent / "above"
    above.mkdir()
    photos.rename(above / "photos")
    with pytest.raises(MediaError, match="-r looks into its 1 folder"):
        read_inputs(["above"], ["?"])


def test_further_prompts_have_ids_of_their_own(photos):
    items = read_inputs(["photos/a.png"], ["What?", "Where?", "Who?"])
    assert ids(items) == ["photos/a.png", "photos/a.png#2", "photos/a.png#3"]
    assert [item.prompt for item in items] == ["What?", "Where?", "Who?"]
    assert len({item.request_hash for item in items}) == 3
    assert len({item.media_key for item in items}) == 1
    assert len({item.shard(7) for item in items}) == 1


def test_globs_and_stdin(photos):
    assert ids(read_inputs(["photos/*.png"], ["?"])) == ["photos/a.png"]
    paths = io.BytesIO(b"photos/b.JPG\nphotos/gone.mp4\n")
    items = read_inputs(["-"], ["?"], stdin=paths)
    assert ids(items) == ["photos/b.JPG", "photos/gone.mp4"]
    odd = io.BytesIO(b"photos/new\nline.jpg\0photos/\xff.jpg\0")
    assert ids(read_inputs(["-"], ["?"], stdin=odd, separator=b"\0")) == [
        "photos/new\nline.jpg",
        r"photos/\udcff.jpg",
    ]
    windows = io.BytesIO("\ufeffphotos/b.JPG\r\nphotos/gone.mp4\r\n".encode("utf-16-le"))
    assert ids(read_inputs(["-"], ["?"], stdin=windows)) == ["photos/b.JPG", "photos/gone.mp4"]


def test_a_file_of_no_known_name_is_looked_into(photos):
    write_clip(photos / "clip.real.mp4").rename(photos / "clip.bin")
    (item,) = read_inputs(["photos/clip.bin"], ["?"])
    assert item.videos == ("photos/clip.bin",)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (["gone.jpg"], MediaError, "gone.jpg: no such file"),
        (["*.gone"], MediaError, "no file matches"),
        (["-", "-"], UsageError, "one input only"),
        (["-"], MediaError, "stdin names no files"),
        (["photos", "photos/a.png"], UsageError, "duplicate id 'photos/a.png'"),
    ],
)
def test_bad_inputs(photos, inputs, error, message):
    with pytest.raises(error, match=message):
        read_inputs(inputs, ["?"], stdin=io.BytesIO(b"\n"))


def test_files_need_a_prompt(photos):
    with pytest.raises(UsageError, match="give --prompt"):
        read_inputs(["photos"], [])


def test_shards_are_complete_and_disjoint(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps({"image": f"{n}.png"}) + "\n" for n in range(100)))
    items = read_inputs([str(path)], ["A?", "B?"])
    shards = [[item.id for item in items if item.shard(3) == index] for index in range(3)]
    assert sorted(id for shard in shards for id in shard) == sorted(ids(items))
    assert all(40 < len(shard) < 95 for shard in shards)


def test_a_data_url_is_an_item_named_by_its_type_and_a_hash(photos):
    clip = write_clip(photos / "c.mp4").read_bytes()
    urls = [f"data:{kind};base64,{base64.b64encode(clip).decode()}" for kind in ("video/mp4", "", "x/y")]
    items = read_inputs([*urls, "data:image/png,a", "data:image/png,b"], ["?"])
    assert [bool(item.videos) for item in items] == [True, True, True, False, False]
    assert all(re.fullmatch(r"<data:[a-z0-9/;]*> [0-9a-f]{12}", item.id) for item in items), ids(items)
    (item,) = read_inputs(["data:image/png,x.csv"], ["?"])
    assert item.images == ("data:image/png,x.csv",)  # no manifest


def test_a_password_is_in_no_id_and_no_hash(photos):
    one, other = (read_inputs([f"https://jo:{word}@host/a.mp4?x#y"], ["?"])[0] for word in ("secret", "else"))
    assert one.id == "https://host/a.mp4?x#y"
    assert one.videos == ("https://jo:secret@host/a.mp4?x#y",)
    assert "secret" not in one.where
    assert one.request_hash == other.request_hash
    assert one.shard(2**40) == other.shard(2**40)
    with pytest.raises(UsageError) as refused:
        read_inputs(["https://jo:secret@host/a.jpg"], [])
    assert "secret" not in str(refused.value)


def test_what_never_ends_is_left_out_of_a_folder(photos):
    os.mkfifo(photos / "pipe.jpg")
    os.mkfifo(photos / "pipe.ts")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(photos)  # a socket's path is short
        server.bind("socket.png")
        os.chdir(photos.parent)
    (photos / "dangling.jpg").symlink_to("gone.jpg")  # says so when it is read
    (photos / "link.jpg").symlink_to("a.png")
    notes = []
    found = ids(read_inputs(["photos"], ["?"], on_note=notes.append))
    assert found == [f"photos/{name}" for name in ("a.png", "b.JPG", "clip.mp4", "dangling.jpg", "link.jpg")]
    assert notes[-1] == "photos: left out pipes, sockets and devices: pipe.jpg, pipe.ts, socket.png"


def test_scripts_are_no_clips_whatever_their_name(photos):
    clip = remux(write_clip(photos / "clip.mp4"), photos / "real.ts").read_bytes()
    stamped = b"".join(b"\0\0\0\0" + clip[at : at + 188] for at in range(0, len(clip), 188))
    (photos / "camera.mts").write_bytes(stamped)
    (photos / "module.mts").write_bytes("export const größe: number = 1;\n".encode() * 40)
    (photos / "Game.TS").write_bytes(b"G" * 100 + b"let x = 1;\n" * 40)
    (photos / "empty.ts").write_bytes(b"")
    found = ids(read_inputs(["photos"], ["?"]))
    assert {name for name in found if name.lower().endswith("ts")} == {"photos/camera.mts", "photos/real.ts"}
    (named,) = read_inputs(["photos/module.mts"], ["?"])  # named, it is what its name says
    assert named.videos
