"""Fixtures of the data tests: small IDX files, and real data where it is."""

import os
from pathlib import Path
import struct

import jax
import numpy as np
import pytest


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="session")
def idx_bytes():
    """A writer of the IDX format, from its definition."""

    def write(array, kind=0x08, shape=None):
        array = np.asarray(array, np.uint8)
        shape = array.shape if shape is None else shape
        header = struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape)
        return header + array.tobytes()

    return write


@pytest.fixture(scope="session")
def real_root():
    """The data root with the real Fashion-MNIST, or a skip."""
    root = os.getenv("JAXEDGE_DATA")
    if not root:
        pytest.skip("JAXEDGE_DATA is not set: no real Fashion-MNIST here")
    if not list(Path(root).glob("fashion_mnist/*-ubyte.gz")):
        pytest.skip("the folder of JAXEDGE_DATA has no Fashion-MNIST files")
    return Path(root)


@pytest.fixture(scope="session")
def cifar10_root():
    """The data root with the real CIFAR-10, or a skip."""
    root = os.getenv("JAXEDGE_DATA")
    if not root:
        pytest.skip("JAXEDGE_DATA is not set: no real CIFAR-10 here")
    names = ("cifar10/*.webp", "cifar-10-batches-*", "cifar10/cifar-10-*")
    if not any(path for name in names for path in Path(root).glob(name)):
        pytest.skip("the folder of JAXEDGE_DATA has no CIFAR-10 files")
    return Path(root)
