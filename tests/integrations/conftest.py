"""One thread, and no settings from outside."""

import os

import pytest
import torch


@pytest.fixture(autouse=True)
def _quick_and_alone(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in list(os.environ):
        if name.startswith("ILLAVA_"):
            monkeypatch.delenv(name)
    yield
    torch.set_num_threads(before)
