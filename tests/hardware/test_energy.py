import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge import hardware as hw
from jaxedge.hardware import energy
from jaxedge.hardware.crossbar import Spec

FREE = energy.Costs(
    read_volts=0.0, adc_bits=1, dac_joules=0.0, op_joules=0.0, read_seconds=0.0
)


@functools.cache
def chip(shape):
    """All weights 1: G+ = 25 uS and G- = 0 in every pair."""
    spec = Spec(hw.devices.get("ideal"))
    return hw.program(jax.random.key(0), jnp.ones(shape), spec)


def leaf(shape, **sizes):
    spec = dataclasses.replace(chip(shape).spec, **sizes)
    return dataclasses.replace(chip(shape), spec=spec)


@pytest.mark.parametrize("bits, femtojoules", [(5, 137), (8, 265)])
def test_an_adc_conversion_costs_what_neurosim_says(bits, femtojoules):
    # Its fit without the column resistance (device_physics D.10).
    joules = energy.sar_adc_joules(bits)
    assert joules * 1e15 == pytest.approx(femtojoules, abs=0.5)


@pytest.mark.parametrize(
    "operations, microjoules",
    [
        (153_521_450, 73.80),  # MUTAG reservoir
        (17_287_869_842, 8310.63),  # COLLAB reservoir
        (18_800, 0.00904),  # MUTAG read-out
    ],
)
def test_the_digital_ledger_of_the_source_data(operations, microjoules):
    # device_physics 4.2; its constant is rounded to .48077 pJ.
    joules = energy.digital_joules(operations, energy.Costs())
    assert joules * 1e6 == pytest.approx(microjoules, rel=3e-4)


@pytest.mark.parametrize(
    "operations, reservoir, others, gain",
    [
        (153_521_450, 33.92e-6, (0.0765 + 0.4374 + 0.00904) * 1e-6, 2.158),
        (17_287_869_842, 233.79e-6, (0.312 + 0.4661 + 0.0286) * 1e-6, 35.43),
    ],
    ids=["MUTAG", "COLLAB"],
)
def test_the_gains_of_the_source_data(operations, reservoir, others, gain):
    # device_physics 4.2: the parts but the reservoir cost both sides the same.
    costs = energy.Costs()
    same = others / costs.op_joules / 2
    rows = [
        row(joules_array=reservoir, rows=operations / 2),
        row(joules_digital=others, rows=same),
    ]
    comparison = energy.compare(rows, costs)
    assert float(comparison.gain) == pytest.approx(gain, rel=5e-4)
    assert float(comparison.reduction) == pytest.approx(1 - 1 / gain, rel=1e-3)


def row(**parts):
    """A ledger's row of which only the given parts count."""
    zeros = dict.fromkeys(energy.LayerEnergy._fields, 0)
    return energy.LayerEnergy(
        **zeros | {"name": "row", "vectors": 1, "cols": 1} | parts
    )


def test_a_small_ledger_by_hand():
    shape = (10, 6)
    sizes = {"rows": 4, "columns": 8, "input_bits": 3, "bit_serial": True}
    costs = energy.Costs(
        read_volts=0.2,
        read_seconds=50e-9,
        dac_joules=3e-15,
        op_joules=1e-12,
    )
    ledger = energy.layer("fc", leaf(shape, **sizes, adc_bits=5), 7, costs)
    assert ledger.name == "fc"
    assert (ledger.rows, ledger.cols, ledger.cells) == (10, 6, 120)
    # Rows: 4 + 4 + 2. Twelve columns of cells: 8 + 4.
    assert ledger.tiles == 3 * 2
    assert ledger.utilisation == pytest.approx(120 / (6 * 4 * 8))
    # Seven vectors of three planes; each reads six outputs in three row tiles.
    assert (ledger.vectors, ledger.conversions) == (7, 21 * 6 * 3)
    current = 60 * 25e-6 * 0.2**2  # every pair has one cell of 25 uS
    assert float(ledger.joules_array) == pytest.approx(21 * current * 50e-9)
    adc = (2.1843 * 5 + 11.931) * 1e-6 * 6e-9
    assert ledger.joules_adc == pytest.approx(378 * adc)
    assert ledger.joules_dac == pytest.approx(21 * 10 * 3e-15)
    # One addition a conversion, one multiplication an output by the scale.
    assert ledger.joules_digital == pytest.approx((378 + 42) * 1e-12)
    names = [name for name in ledger._fields if name.startswith("joules_")]
    parts = np.sum([float(getattr(ledger, name)) for name in names])
    assert len(names) == 5 and float(ledger.joules) == pytest.approx(parts)


def test_rows_outputs_and_slices_that_take_turns_take_time():
    """40 inputs on tiles of 16 rows, four at a time; three slices."""
    sizes = {
        "rows": 16,
        "columns": 24,
        "rows_on": 4,
        "weight_bits": 7,
        "slice_bits": 2,
        "input_bits": 3,
        "bit_serial": True,
        "adc_bits": 6,
    }
    spec = Spec(hw.devices.get("ideal"), **sizes)
    leaf = hw.program(jax.random.key(0), jnp.ones((40, 6)), spec)
    costs = energy.Costs(
        read_seconds=10e-9,
        adc="charge_injection_sar_6",
        adc_columns=5,
        memory_joules=1e-12,
        cell_square_metres=1e-12,
    )
    ledger = energy.layer("fc", leaf, 2, costs)
    assert ledger.cells == 40 * 6 * 2 * 3
    # Six columns a weight: four weights a tile of 24; 16 + 16 + 8 rows.
    assert ledger.tiles == 3 * 2
    assert ledger.conversions == 2 * 3 * (3 * 4) * 3 * 6
    # 3 tiles x 3 slices x 6 outputs, five to a converter.
    assert ledger.adcs == 11
    conversion = 8 / 1e9
    turns = 2 * 3 * 4
    assert ledger.seconds == pytest.approx(turns * (10e-9 + 5 * conversion))
    area = 6 * 16 * 24 * 1e-12 + 11 * 580e-12
    assert ledger.square_metres == pytest.approx(area)
    moved = 2 * (40 * 3 + 6 * 6) / 8
    assert ledger.joules_memory == pytest.approx(moved * 1e-12)
    assert ledger.joules_adc == pytest.approx(ledger.conversions * 1.26e-12)
    total = energy.compare([ledger, ledger], costs)
    assert total.seconds_hardware == pytest.approx(2 * ledger.seconds)
    assert total.seconds_slowest == pytest.approx(ledger.seconds)
    assert total.square_metres == pytest.approx(2 * area)
    assert total.seconds_gpu == pytest.approx(2 * 2 * 2 * 240 / 624e12)
    unknown = energy.layer("fc", leaf, 2, costs._replace(adc="neurosim_sar"))
    assert unknown.square_metres is None
    assert energy.compare([ledger, unknown], costs).square_metres is None


def test_a_converter_must_have_the_bits_of_the_design():
    costs = energy.Costs(adc="charge_injection_sar_6")
    with pytest.raises(core.UsageError, match="has 6 bits, but the design"):
        energy.layer("a", leaf((10, 6), adc_bits=8), 1, costs)
    with pytest.raises(core.UsageError, match="unknown adc 'isaac'"):
        energy.Costs(adc="isaac").check()


@pytest.mark.parametrize(
    "sizes, reads, bits",
    [
        ({}, 1, 8),  # an exact converter is priced as Costs say
        ({"adc_bits": 6}, 1, 6),
        ({"input_bits": 4}, 1, 8),
        ({"input_bits": 4, "bit_serial": True, "adc_bits": 6}, 4, 6),
    ],
    ids=str,
)
def test_bit_planes_and_converters_are_counted(sizes, reads, bits):
    ledger = energy.layer("a", leaf((10, 6), **sizes), 5, energy.Costs())
    assert ledger.conversions == 5 * reads * 6
    expected = ledger.conversions * energy.sar_adc_joules(bits)
    assert ledger.joules_adc == pytest.approx(expected)


def test_a_ledger_adds_up_and_meets_the_same_products_digitally():
    costs = energy.Costs()
    rows = [
        energy.layer("conv", leaf((3, 3, 2, 4)), 49, costs),
        energy.layer("fc", leaf((10, 6)), 1, costs),
    ]
    total = energy.compare(rows, costs)
    hardware = sum(float(row.joules) for row in rows)
    assert float(total.joules_hardware) == pytest.approx(hardware)
    macs = 49 * 18 * 4 + 10 * 6
    assert total.joules_gpu == pytest.approx(2 * macs * 300 / 624e12)
    assert float(total.gain) == pytest.approx(total.joules_gpu / hardware)
    assert float(total.reduction) == pytest.approx(
        1 - hardware / total.joules_gpu
    )


def test_free_parts_cost_nothing():
    ledger = energy.layer("a", leaf((10, 6)), 5, FREE)
    assert float(ledger.joules) == pytest.approx(ledger.joules_adc)


# Weight shapes of the published networks; cells from device_physics D.7.
CNN = [(3, 3, 1, 64), (3, 3, 64, 16), (400, 128), (128, 10)]
CRNN = [
    (3, 2, 1, 64),
    (3, 2, 64, 32),
    (32, 128),
    (128, 128),
    (128, 256),
    (256, 10),
]


@pytest.mark.parametrize(
    "shapes, tiles, cells",
    [
        (CNN, [1, 2, 1, 1], 124_544),
        (CRNN, [1, 1, 1, 1, 1, 1], 136_960),
    ],
    ids=["CNN", "CRNN"],
)
def test_cells_and_tiles_of_the_published_networks(shapes, tiles, cells):
    # Sizes come from the shape alone, so a small array will do.
    leaves = [dataclasses.replace(leaf((10, 6)), shape=s) for s in shapes]
    ledger = [energy.layer("a", leaf, 1, energy.Costs()) for leaf in leaves]
    assert sum(row.cells for row in ledger) == cells
    assert [row.tiles for row in ledger] == tiles
    for row in ledger:
        share = row.cells / (row.tiles * 512**2)
        assert row.utilisation == pytest.approx(share)


@pytest.mark.parametrize(
    "inputs, outputs, tiles",
    [
        (512, 256, (1, 1)),
        (513, 256, (2, 1)),
        (512, 257, (1, 2)),
        (2304, 256, (5, 1)),
        (1, 1, (1, 1)),
    ],
)
def test_tiles_are_whole_macros(inputs, outputs, tiles):
    assert Spec(hw.devices.get("ideal")).tiles(inputs, outputs) == tiles


def test_switching_is_priced_when_its_prices_are_known():
    known = energy.Costs(set_joules=2e-12, reset_joules=5e-12)
    assert energy.programming_joules(3, 4, known) == pytest.approx(26e-12)
    for name in ("set_joules", "reset_joules"):
        unknown = known._replace(**{name: None})
        assert energy.programming_joules(3, 4, unknown) is None


@pytest.mark.parametrize(
    "field", [f for f in energy.Costs._fields if f != "adc"]
)
def test_a_negative_price_is_refused(field):
    energy.Costs().check()
    with pytest.raises(core.UsageError, match=f"{field} is -1"):
        energy.Costs(**{field: -1}).check()
