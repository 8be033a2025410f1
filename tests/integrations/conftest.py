"""What all tests of integrations share."""

import pytest


@pytest.fixture(autouse=True)
def _quiet(quiet):
    pass
