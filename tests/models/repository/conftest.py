"""Small checkpoints, written once."""

import pytest

from tests.models.repository.checkpoints import KINDS
from tests.repository import write_repository


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """A checkpoint of the repository and the one of `transformers` that it was made from."""
    folders = {}

    def get(kind):
        if kind not in folders:
            write, overrides, marks, _ = KINDS[kind]
            base = tmp_path_factory.mktemp("checkpoints")
            source = write(base / "hf", **overrides)
            folders[kind] = write_repository(base / "llava", source, marks=marks), source
        return folders[kind]

    return get
