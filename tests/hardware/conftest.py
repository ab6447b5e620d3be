"""What the tests of the hardware room share."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def compile_quickly():
    """Machine code that is made fast rather than that is fast.

    These tests run hundreds of small programs once, so that compiling them is
    all the time they take. One file at a time: without an `__init__.py` a
    package's fixture would last into the tests of other rooms.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
