"""What a table says of the command that made it."""

import pytest

from illava_cli.bench.machine import command


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("shots/a.png", "shots/a.png"),
        ("/home/me/a.png", "a.png"),
        ("../a.png", "a.png"),
        ("--images=/home/me/my photos", "'--images=my photos'"),
        ("mine: preset=/home/me/mine.yaml llm.keep=1/3", "'mine: preset=mine.yaml llm.keep=1/3'"),
        ("mine: preset=auto media.clip=~/clip.mp4", "'mine: preset=auto media.clip=clip.mp4'"),
        ("clips=[/home/me/a.mp4, ~/b.mp4]", "'clips=[a.mp4, b.mp4]'"),
        ("pixels={file: '/home/me/x'}", """'pixels={file: '"'"'x'"'"'}'"""),
        ("file:///home/me/a.png", "file://a.png"),
        ("-o/home/me/x.jsonl", "-ox.jsonl"),
        ("shots/../../me/a.png", "a.png"),
        ("Is it a cat/dog?", "'Is it a cat/dog?'"),
        ("...a cat/dog?", "'...a cat/dog?'"),
        ("keep=1/3", "keep=1/3"),
    ],
)
def test_no_folder_beyond_the_working_one(argument, told):
    assert command(["eval", argument]) == f"illava eval {told}"
