"""What the tests of the hardware room share."""

import jax
import pytest

# What they check is arithmetic, which the contract tables run on every version.
PHYSICS = {
    "test_adc",
    "test_calibration",
    "test_crossbar",
    "test_designs",
    "test_device_effects",
    "test_device_statistics",
    "test_energy",
    "test_ensemble",
    "test_fitting",
    "test_ir_drop",
    "test_multilevel",
    "test_pairs",
    "test_pulse_trains",
    "test_pulsed",
    "test_read_noise",
    "test_write_verify",
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in PHYSICS:
            item.add_marker("physics")


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
