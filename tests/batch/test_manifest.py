"""Manifests: what a line says, and what is refused with the number of its line."""

import json

import pytest

from illava_cli.batch.manifest import read_manifest
from illava_cli.config import Config
from illava_cli.errors import MediaError, UsageError


@pytest.fixture
def written(tmp_path):
    """Writes a manifest: a text, or objects for the lines of a JSONL file."""

    def write(content, name="m.jsonl"):
        path = tmp_path / name
        if not isinstance(content, str | bytes):
            content = "".join(json.dumps(line) + "\n" for line in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_json_lines(written, tmp_path):
    path = written(
        [
            {"id": 7, "image": "a.jpg", "prompt": "What?", "max_tokens": 9, "system": "Brief."},
            {"images": ["a.jpg", "/abs/b.jpg"], "prompt": "Both?"},
            {"video": "http://x/c.mp4", "num_frames": 4, "start": 1.5},
        ]
    )
    items = list(read_manifest(path, ["Default?", "Second?"]))
    assert [item.id for item in items] == ["7", "m:2", "m:3", "m:3#2"]
    assert [item.prompt for item in items] == ["What?", "Both?", "Default?", "Second?"]
    assert items[0].settings == {"generation": {"max_tokens": 9, "system": "Brief."}}
    assert items[1].sources == ([str(tmp_path / "a.jpg"), "/abs/b.jpg"], [])
    assert items[2].sources == ([], ["http://x/c.mp4"])
    config = items[2].config(Config(media={"fps": 1}))
    assert (config.media.num_frames, config.media.fps, config.media.start) == (4, None, 1.5)
    assert items[0].config(Config()).hash() != Config().hash()
    assert items[1].config(Config()).hash() == Config().hash()


def test_a_line_bounds_its_pixels(written):
    """A line's are not checked against the run's before they are laid over it."""
    line = {"image": "a.jpg", "prompt": "?", "max_pixels": 5000}
    for path in (written([line]), written("image,prompt,max_pixels\na.jpg,?,5000\n", "m.csv")):
        (item,) = read_manifest(path, [])
        assert item.settings == {"media": {"max_pixels": 5000}}
        media = item.config(Config(media={"min_pixels": 784, "max_pixels": 9000})).media
        assert (media.min_pixels, media.max_pixels) == (784, 5000)
        with pytest.raises(UsageError, match=r"line \d.*min_pixels \(9000\) is over max_pixels \(5000\)"):
            item.config(Config(media={"min_pixels": 9000}))


def test_a_line_has_a_schema_of_its_own(written):
    """Whole, not laid over the run's, in JSON and in a table's cell."""
    schema = {"type": "object", "properties": {"b": {}, "a": {}}}
    base = Config(generation={"json_schema": {"type": "integer", "minimum": 3}})
    (item,) = read_manifest(written([{"image": "a.jpg", "prompt": "?", "json_schema": schema}]), [])
    assert item.config(base).generation.json_schema == json.dumps(schema)
    cell = json.dumps(schema).replace('"', '""')
    (item,) = read_manifest(written(f'image,prompt,json_schema\na.jpg,?,"{cell}"\n', "m.csv"), [])
    assert item.config(base).generation.json_schema == json.dumps(schema)


@pytest.mark.parametrize("said", [True, "true"])
def test_a_switch_is_said_as_such(said, written):
    (item,) = read_manifest(written([{"images": ["a.jpg", "b.jpg"], "prompt": "?", "tile_each": said}]), [])
    assert item.settings == {"media": {"tile_each": True}}
    (item,) = read_manifest(written(f"images,prompt,tile_each\na.jpg;b.jpg,?,{said}\n", "m.csv"), [])
    assert item.config(Config()).media.tile_each is True


def test_a_folder_that_moves_asks_the_same(tmp_path, written):
    (before,) = read_manifest(written([{"image": "a.jpg", "prompt": "?"}]), [])
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    written([{"image": "a.jpg", "prompt": "?"}], "elsewhere/m.jsonl")
    (after,) = read_manifest(moved / "m.jsonl", [])
    assert before.request_hash == after.request_hash
    assert before.sources != after.sources


def test_csv(written):
    text = (
        '\ufeffid,image,images,prompt,max_tokens,stop\r\nx,"a,b.jpg",,"Two\r\nlines?",5,\r\n\r\n'
        "y,,c.jpg; d.jpg,Why?,,END\r\n"
    )
    items = list(read_manifest(written(text, "m.csv"), []))
    assert [item.id for item in items] == ["x", "y"]
    assert items[0].images == ("a,b.jpg",)
    assert items[0].prompt == "Two\nlines?"
    assert items[0].settings == {"generation": {"max_tokens": 5}}
    assert items[1].images == ("c.jpg", "d.jpg")
    assert items[1].settings == {"generation": {"stop": ["END"]}}
    for name in ("m.tsv", "M.TSV"):
        tabs = written("image\tprompt\na.jpg\tWhat, then?\n", name)
        assert [item.prompt for item in read_manifest(tabs, [])] == ["What, then?"]


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\x0c"])
def test_only_line_breaks_end_a_row(written, character):
    path = written(f"image,prompt\na.jpg,One{character}two\nb.jpg,?\n", "m.csv")
    assert [item.prompt for item in read_manifest(path, [])] == [f"One{character}two", "?"]


GOOD = {"image": "a.jpg", "prompt": "?"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ("3", "expected an object"),
        ({"image": "a.jpg", "promt": "?"}, "unknown field 'promt'; did you mean 'prompt'"),
        ({"prompt": "?"}, "names no image and no video"),
        ({"image": "a.jpg"}, "has no prompt"),
        ({"image": "a.jpg", "images": ["b.jpg"], "prompt": "?"}, "not both"),
        ({"image": 3, "prompt": "?"}, "must be a path"),
        ({"image": "a.jpg", "prompt": ["?"]}, "prompt must be a text"),
        ({**GOOD, "max_tokens": 0}, "max_tokens"),
        ({**GOOD, "max_tokens": True}, "max_tokens: must not be true"),
        ({**GOOD, "num_frames": False}, "num_frames: must not be false"),
        ({**GOOD, "stop": ["a", True]}, "stop: must not be true"),
        ({**GOOD, "temperature": "hot"}, "temperature"),
        ({**GOOD, "json_schema": [1]}, "json_schema: expected a JSON schema"),
        ({**GOOD, "num_frames": 2, "fps": 1}, "exclude"),
    ],
)
def test_a_bad_line_is_named(written, line, message):
    path = written(json.dumps(GOOD) + "\n\n" + (line if isinstance(line, str) else json.dumps(line)))
    with pytest.raises(UsageError, match=f"m.jsonl, line 3: .*{message}"):
        list(read_manifest(path, []))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,prompt\na.jpg,?\na.jpg,x,y\n", "line 3: 3 cells for 2 columns"),
        ("image,image\n", "line 1: two columns"),
        ("image,label\na.jpg,x\n", "line 2: unknown field 'label'"),
        (b"image,prompt\na.jpg,\xff\n", "line 2: not UTF-8"),
        ('image,prompt\n"a\nb.jpg",?\n,?\n', "line 4: names no image"),
    ],
)
def test_a_bad_row_is_named(written, text, message):
    with pytest.raises(UsageError, match=message):
        list(read_manifest(written(text, "m.csv"), []))


@pytest.mark.parametrize("form", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_json_lines_as_programs_write_them(written, form, end):
    lines = [json.dumps(GOOD), "", json.dumps({"image": "b.jpg", "prompt": "\u2028é"}, ensure_ascii=False)]
    items = list(read_manifest(written(end.join([*lines, ""]).encode(form)), []))
    assert [(item.id, item.prompt) for item in items] == [("m:1", "?"), ("m:3", "\u2028é")]
    with pytest.raises(UsageError, match=r"m\.jsonl, line 4: not valid JSON"):
        list(read_manifest(written(end.join([*lines, "{", ""]).encode(form)), []))


def test_a_line_that_is_no_text_is_named(written):
    good = json.dumps(GOOD).encode()
    with pytest.raises(UsageError, match=r"m\.jsonl, line 2: not UTF-8 text"):
        list(read_manifest(written(good + b'\n{"image": "caf\xe9.jpg", "prompt": "?"}\n'), []))


def test_an_empty_or_missing_manifest(written, tmp_path):
    for content, name in (("", "m.jsonl"), ("image,prompt\n", "m.csv")):
        with pytest.raises(MediaError, match="holds no lines"):
            list(read_manifest(written(content, name), []))
    with pytest.raises(MediaError, match="cannot read"):
        list(read_manifest(tmp_path / "gone.jsonl", []))
