"""What the tests of features share."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def quickly(compile_quickly):
    """Hundreds of small programs, each run once."""
