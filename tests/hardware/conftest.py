"""What the tests of the hardware room share."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def quickly(compile_quickly):
    """Hundreds of small programs, each run once."""
