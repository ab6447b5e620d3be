"""Tests of networks in a file of arrays."""

import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core.checks import UsageError
from jaxedge.models import arrays
from jaxedge.models.learned_step import LearnedStep
from jaxedge.quantize.grid import Grid

W = np.arange(6, dtype=np.float32).reshape(2, 3)
PLAIN = {"params": {"Dense_0": {"kernel": W, "bias": np.ones(3, np.float32)}}}
LIKE = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, PLAIN))


def saved(tmp_path, kernel):
    params = {"Dense_0": {**PLAIN["params"]["Dense_0"], "kernel": kernel}}
    arrays.save(tmp_path / arrays.FILE, {"params": params})
    return tmp_path


def test_a_network_comes_back_from_its_folder_or_file(tmp_path):
    folder = saved(tmp_path, W)
    for path in (folder, folder / arrays.FILE):
        found = arrays.load(path, LIKE)
        jax.tree.map(np.testing.assert_array_equal, found, PLAIN)
    assert [p.name for p in tmp_path.iterdir()] == [arrays.FILE]


def test_trained_weights_leave_their_grid_and_masks_stay(tmp_path):
    grid = Grid(jnp.ones(1), jnp.float32(-2), jnp.float32(1))
    found = arrays.load(
        saved(tmp_path, LearnedStep(jnp.asarray(W), grid)), LIKE
    )
    np.testing.assert_array_equal(found["params"]["Dense_0"]["kernel"], W)
    mask = (W > 2).astype(np.float32)
    leaf = hardware.MaskedRandom(jnp.asarray(W), jnp.asarray(mask))
    found = arrays.load(saved(tmp_path, leaf), LIKE)
    kept = found["params"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(kept, W * mask)


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(UsageError, match="there is no .*network.npz"):
        arrays.load(tmp_path, LIKE)
    saved(tmp_path, W.T)
    with pytest.raises(UsageError, match=r"Dense_0/kernel has shape \(3, 2\)"):
        arrays.load(tmp_path, LIKE)
    saved(tmp_path, np.where(W == 4, np.nan, W))
    with pytest.raises(UsageError, match="1 NaN or infinite"):
        arrays.load(tmp_path, LIKE)
    more = {"params": {**LIKE["params"], "head": jnp.ones(2)}}
    saved(tmp_path, W)
    with pytest.raises(UsageError, match="lacks 1 arrays.*params/head"):
        arrays.load(tmp_path, more)
    (tmp_path / arrays.FILE).write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(UsageError, match="cannot be read"):
        arrays.load(tmp_path, LIKE)
    # An entry that is no array, and a head that is no Python.
    for content in (b"something", b"\x93NUMPY\x01\x00\x0a\x00{'descr': ("):
        with zipfile.ZipFile(tmp_path / arrays.FILE, "w") as file:
            file.writestr("params/Dense_0/kernel.npy", content)
        with pytest.raises(UsageError, match="network.npz cannot be read"):
            arrays.load(tmp_path, LIKE)
