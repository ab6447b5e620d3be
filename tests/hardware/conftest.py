"""What the tests of the hardware room share."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def quickly(request):
    """Hundreds of small programs, each run once.

    Those of the in-SRAM macro are few and convert a million dot products.
    """
    if not request.path.stem.startswith("test_sram"):
        request.getfixturevalue("compile_quickly")
