"""What the tests of features share: real data where it is."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="module")
def quickly(compile_quickly):
    """Hundreds of small programs, each run once."""


@pytest.fixture(scope="session")
def real_file():
    """A function from a path below the data root to the file, or a skip."""

    def find(name):
        root = os.getenv("JAXEDGE_DATA")
        if not root:
            pytest.skip(f"JAXEDGE_DATA is not set: no {name} here")
        path = Path(root, name)
        if not path.is_file():
            pytest.skip(f"the folder of JAXEDGE_DATA has no {name}")
        return path

    return find
