"""CSV as spreadsheets write it."""

import pytest

from illava_cli.batch.manifest import read_manifest
from illava_cli.errors import UsageError


@pytest.fixture
def asked(tmp_path):
    """(id, image, prompt) of each row of a file with this content."""

    def read(content, name="m.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return [(item.id, item.images, item.prompt) for item in read_manifest(path, [])]

    return read


ROW = [("1", ("a.jpg",), "Red, or not; what?")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("first", ["", "sep={}", '"sep={}"', "sep={}{}{}"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators(asked, separator, first, form, end):
    rows = [["id", "image", "prompt"], ["1", "a.jpg", '"Red, or not; what?"']]
    lines = [first.replace("{}", separator)] if first else []
    lines += [separator.join(row) for row in rows]
    assert asked((end.join(lines) + end).encode(form)) == ROW
    if not first:
        assert asked((end.join(lines) + end).encode(form), "m.tsv") == ROW


def test_a_single_column_has_no_separator(asked):
    with pytest.raises(UsageError, match="line 2: has no prompt"):
        asked("image\na;b.jpg\n")


def test_columns_of_nothing(asked):
    assert asked("id,image,prompt,,\n1,a.jpg,?,,\n2,b.jpg,?\n3,c.jpg,?,,,,\n,,,,\n") == [
        (number, (f"{name}.jpg",), "?") for number, name in zip("123", "abc", strict=True)
    ]
    assert asked("id,,image,,prompt\n1,,a.jpg,,?\n") == [("1", ("a.jpg",), "?")]
    with pytest.raises(UsageError, match="line 2: 'x' is in a column without a name"):
        asked("id,,image,prompt\n1,x,a.jpg,?\n")
    with pytest.raises(UsageError, match="line 2: 4 cells for 3 columns: quote cells that hold semicolons"):
        asked("id;image;prompt;\n1;a.jpg;Red;or not?\n")


def test_names_and_cells_with_blanks(asked):
    assert asked("ID , Image,PROMPT,Max Tokens\n 1 , a.jpg , What? , 5 \n") == [("1", ("a.jpg",), "What? ")]
    assert asked('id, image, prompt\n1, "a.jpg", "Red, or not?"\n') == [("1", ("a.jpg",), "Red, or not?")]


def test_a_cell_of_any_length(asked):
    words = "word " * 40000
    assert asked(f'id,image,prompt\n1,a.jpg,"{words}"\n') == [("1", ("a.jpg",), words)]
    picture = "data:image/png;base64," + "A" * 200000
    assert asked(f'id;image;prompt\n1;"{picture}";?\n') == [("1", (picture,), "?")]


def test_quotes_and_line_breaks_in_cells(asked):
    text = 'id,image,prompt\r\n1,a.jpg,"A ""b""\r\nc\rd\ne"\r\n'
    assert asked(text) == [("1", ("a.jpg",), 'A "b"\nc\nd\ne')]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('image,prompt\na.jpg,"open\nb.jpg,?\n', "line 3: not valid CSV"),
        ('sep=;\nimage;prompt\na.jpg;"a"b\n', "line 3: not valid CSV"),
        ("sep=;\nimage;promt\na.jpg;?\n", "line 3: unknown field 'promt'; did you mean 'prompt'"),
        ("Image;image;prompt\n", "line 1: two columns have the same name"),
        ("image,prompt\r\na.jpg,\xff?\r\n".encode("latin-1"), "line 2: not UTF-8 text"),
        ("image,prompt\na.jpg,a\0b\n", "line 2: holds a NUL byte"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(asked, content, message):
    with pytest.raises(UsageError, match=f"m.csv, {message}"):
        asked(content)
