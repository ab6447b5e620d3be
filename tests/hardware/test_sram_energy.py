"""Energy and time of the in-SRAM macro, counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.hardware import crossbar, devices, energy, sram

COSTS = energy.Costs(op_joules=0.0)


def rows(shapes, costs=COSTS, **more):
    """The ledger of layers, by shape and number of vectors."""
    make = jax.jit(sram.Spec().program)
    return [
        energy.layer(
            f"layer_{i}",
            make(jax.random.key(0), jnp.ones(shape)),
            vectors,
            costs,
            **more,
        )
        for i, (shape, vectors) in enumerate(shapes)
    ]


# sram_cim 5.3: conversions and joules of two networks.
@pytest.mark.parametrize(
    "shapes, conversions, joules",
    [
        ([((784, 256), 1), ((256, 10), 1)], 3368, 3.14e-9),
        ([((128, 64), 1), ((64, 3), 1)], 131, 122e-12),
    ],
)
def test_published_counts(shapes, conversions, joules):
    found = rows(shapes)
    assert sum(row.conversions for row in found) == conversions
    total = sum(float(row.joules) for row in found)
    np.testing.assert_allclose(total, joules, rtol=2e-3)


def test_a_kernel_counts_its_places():
    (row,) = rows([((3, 3, 16, 8), 100)])
    # 144 inputs are three arrays of 64 rows.
    assert (row.rows, row.cols, row.tiles) == (144, 8, 3)
    assert row.conversions == 100 * 3 * 8 and row.adcs == 24
    assert row.utilisation == 144 / 192 and row.cells == 144 * 8 * 4
    np.testing.assert_allclose(row.seconds, 100 * COSTS.read_seconds)


def test_lines_that_fall_further_cost_more():
    costs = COSTS._replace(macro_share=0.4, macro_drop=0.2)
    half, same, twice = (
        float(rows([((64, 1), 1)], costs, drop=d)[0].joules)
        for d in (0.1, None, 0.4)
    )
    np.testing.assert_allclose(same, 128 / 137.5e12, rtol=1e-5)
    np.testing.assert_allclose(half / same, 0.8, rtol=1e-5)
    np.testing.assert_allclose(twice / same, 1.4, rtol=1e-5)


def test_the_shape_of_a_measured_macro():
    # Sinangil et al. (JSSC 2021) as in sram_cim 5.3: mean output, pJ.
    output = [1, 2, 4, 6, 8, 10, 12, 15]
    picojoules = [4.563, 5.033, 5.443, 5.838, 6.285, 6.657, 7.044, 7.795]
    joules = 1e-12 * np.array(picojoules)
    found = sram.fit_energy(output, joules)
    error = found.joules(np.array(output)) / joules - 1
    # Without the jump at an output of 0.
    assert np.abs(error).max() < 0.1
    two = sram.fit_energy([0.0, 0.5], [1.0, 2.0])
    np.testing.assert_allclose([two.base, two.slope], [1.0, 2.0])


def test_time_of_a_conversion():
    config = sram.Config()
    # 8 * 7 units of the product; steps of 14 units: 7 whose branches are as
    # many as their LSBs, and the last twice as long.
    steps = 14 * (7 + 2)
    ideal = sram.seconds(config, 1e-9)
    np.testing.assert_allclose(ideal, 1e-9 * (8 * 7 + steps))
    folded = sram.seconds(config, 1e-9, bits="parallel")
    np.testing.assert_allclose(folded, 1e-9 * (8 * 4 + steps))
    plain = sram.Config(fold=0, lsb_units=27)
    longer = sram.seconds(
        plain, 1e-9, decision_seconds=1e-9, precharge_seconds=2e-9
    )
    np.testing.assert_allclose(longer, 1e-9 * (2 + 15 * 7 + 27 * 9 + 9))


def test_a_crossbar_has_no_drop():
    leaf = crossbar.Spec(devices.get("ideal")).program(
        jax.random.key(0), jnp.ones((2, 2))
    )
    with pytest.raises(checks.UsageError, match="layer is a Crossbar"):
        energy.layer("layer", leaf, 1, COSTS, drop=0.2)


def test_bad_numbers():
    with pytest.raises(checks.UsageError, match="unit_seconds is 0"):
        sram.seconds(sram.Config(), 0.0)
    with pytest.raises(checks.UsageError, match="unknown bits 'both'"):
        sram.seconds(sram.Config(), 1e-9, bits="both")
    with pytest.raises(checks.UsageError, match="two different drops"):
        sram.fit_energy([1.0, 1.0], [1.0, 2.0])
    with pytest.raises(checks.UsageError, match="macro_share is 2"):
        energy.Costs(macro_share=2).check()
