"""Tests of what is told of single cells and codes, and of their programmes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import hardware
from jaxedge.core.checks import UsageError
from jaxedge.hardware import crossbar, devices, digital, sram, weights
from jaxedge.hardware.write_verify import Verified
from jaxedge.run.exports import cells, program, pulses, structure

pytestmark = pytest.mark.usefixtures("compile_quickly")


def test_write_and_verify_goes_cell_by_cell():
    device = devices.get("rram_wan2022")
    spec = crossbar.Spec(Verified(device, tolerance_S=1e-6, max_events=7))
    w = jnp.array([[0.5, -1.0], [0.0, 0.25]])
    leaf = weights.program(jax.random.key(0), w, spec)
    told = pulses.of(leaf, w, None, pulses.verified(spec.device)[1])
    assert pulses.verified(spec.device) == (7, pytest.approx(1e-6))
    assert told["operation"].tolist() == (
        ["set", "verify", "reset", "verify"]  # 0.5
        + ["reset", "verify", "set", "verify"]  # -1
        + ["reset", "verify"] * 2  # 0
        + ["set", "verify", "reset", "verify"]  # 0.25
    )
    low, high = float(device.g_min), float(device.g_max)
    levels = low + (high - low) * np.array([0.5, 0, 0, 1, 0, 0, 0.25, 0])
    np.testing.assert_allclose(told["target_S"][::2], levels, rtol=1e-6)
    assert np.isnan(told["tolerance_S"][::2]).all()
    np.testing.assert_allclose(told["tolerance_S"][1::2], 1e-6)


def test_as_formed_cells_are_only_reset():
    spec = crossbar.Spec(devices.get("rram_40nm_random"))
    w = jnp.ones((2, 2))
    early = hardware.MaskedRandom(w, jnp.array([[1.0, 0.0], [1.0, 1.0]]))
    late = hardware.MaskedRandom(w, jnp.array([[0.0, 1.0], [1.0, 1.0]]))
    leaf = weights.program(jax.random.key(0), late, spec)
    assert pulses.of(leaf, w, None, None) is None
    told = pulses.of(leaf, late, early, None)
    rows = list(
        zip(*(told[c].tolist() for c in pulses.COLUMNS[:5]), strict=True)
    )
    tile = "tile_0_0"
    assert rows == [
        ("initial", tile, 0, 2, "reset"),
        ("initial", tile, 0, 3, "reset"),
        ("learned", tile, 0, 0, "reset"),
        ("learned", tile, 0, 1, "reset"),
        ("learned", tile, 0, 2, "set"),
        ("learned", tile, 0, 3, "set"),
    ]
    layer = cells.layer(leaf, late)
    assert np.isnan(layer.tiles[tile]["target_S"]).all()
    assert layer.tiles[tile]["kept"].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]


def test_codes_of_macros():
    spec = sram.get("sram_wang2023", rows=16, columns=4)
    w = jax.random.normal(jax.random.key(2), (40, 6))
    leaf = jax.jit(weights.program)(jax.random.key(0), w, spec)
    layer = cells.layer(leaf, w)
    assert {*layer.tiles} == {
        f"tile_{t}_{n}" for t in range(3) for n in range(2)
    }
    codes = np.zeros((40, 6))
    for maps in layer.tiles.values():
        there = maps["input"] >= 0
        assert maps["code"].shape[0] in (16, 8)  # 40 inputs on 16 rows.
        codes[maps["input"][there], maps["output"][there]] = maps["code"][there]
    # The largest weight is 7, as 4 bits with a sign have it.
    scale = float(np.abs(w).max()) / 7
    np.testing.assert_array_equal(codes, np.round(np.asarray(w) / scale))
    assert layer.design["weight_per_code"] == pytest.approx(scale, rel=1e-6)
    assert {"fold", "lsb_units"} <= {*layer.design}


@pytest.mark.parametrize("name", ["int4", "fp8_e4m3", "nvfp4", "mxfp4"])
def test_codes_of_numbers(name):
    w = jax.random.normal(jax.random.key(3), (40, 3))
    leaf = weights.program(jax.random.key(0), w, digital.get(name))
    layer = cells.layer(leaf, w)
    maps = layer.tiles["tile_0_0"]
    np.testing.assert_array_equal(maps["value"], leaf.matrix)
    bits = digital.formats.bits(name)
    assert 0 <= maps["code"].min() and maps["code"].max() < 2**bits
    if name == "mxfp4":  # OCP: 1 bit of sign, 2 and 1 of E2M1, and E8M0.
        grid = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
        sign = np.where(maps["code"] & 8, -1, 1)
        scale = 2.0 ** (maps["scale_bits"] - 127)
        value = sign * grid[maps["code"] & 7] * scale
        np.testing.assert_array_equal(value, maps["value"])
    again = digital.formats.unpack_weights(cells.packed(leaf, w))
    np.testing.assert_array_equal(again, leaf.matrix)


def test_a_structure_makes_nothing_but_types_of_this_package():
    decode = structure.decode
    for kind in ("os:system", "jaxedge.run.job:resolve", "jaxedge.no:Thing"):
        with pytest.raises(UsageError, match="no type of this release"):
            decode({"type": kind, "fields": {}}, {})


def test_narrow_floats_come_back_with_their_names(tmp_path):
    wanted = {
        "a": np.asarray(jnp.arange(3, dtype=jnp.bfloat16)),
        "b": np.asarray(jnp.asarray(1.5, jnp.float8_e4m3fn)),
        "c": np.array(True),
    }
    path = tmp_path / "x.npz"
    np.savez(path, **wanted)
    dtypes = {name: a.dtype.name for name, a in wanted.items()}
    for found, array in zip(
        program._arrays(path, dtypes), wanted.values(), strict=True
    ):
        assert found.dtype == array.dtype and found.shape == array.shape
        np.testing.assert_array_equal(
            found.astype(np.float32), array.astype(np.float32)
        )


def test_outputs_become_plain():
    import collections

    Pair = collections.namedtuple("Pair", "a b")
    found = program._plain(Pair(1, (Pair(2, 3), {"c": 4})))
    assert found == {"a": 1, "b": [{"a": 2, "b": 3}, {"c": 4}]}
