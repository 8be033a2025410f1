"""Items, and records as a run writes them."""

from pathlib import Path

import pytest

from illava_cli.batch.item import Item
from illava_cli.config import Config
from illava_cli.engine.record import Generation, error_record
from illava_cli.errors import MediaError
from tests.client.conftest import impatient, server  # noqa: F401 - fixtures
from tests.conftest import picture


@pytest.fixture
def items():
    """Four questions about pictures, the last with settings of its own."""
    return [
        *(Item(name, f"What is {name}?", (f"{name}.jpg",), where=f"m.jsonl, line {name}") for name in "abc"),
        Item("d", "Where?", ("a.jpg", "b.jpg"), settings={"generation": {"max_tokens": 3}}, where="m"),
    ]


def record(item: Item, config: Config, text: str | None = "red") -> dict:
    """The record of an item's answer; of a failure where there is no text."""
    config_hash = item.config(config).hash()
    if text is None:
        made = error_record(MediaError("broken"), id=item.id, config_hash=config_hash)
    else:
        made = Generation(text, "stop", "tiny", config.preset, 0, config_hash, id=item.id).record()
    return made | {"prompt": item.prompt, "request_hash": item.request_hash, "created": 5}


def photos(folder: Path, count: int) -> None:
    """Pictures, and a broken one, in a folder `photos`."""
    (folder / "photos").mkdir()
    for number in range(count):
        picture(60, 50, number).save(folder / "photos" / f"{number}.png")
    (folder / "photos" / "broken.png").write_text("no picture")
