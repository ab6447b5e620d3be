"""Energy ledger: count reads and conversions, then price them.

The energy of an operation is not a constant of an analogue array: it depends
on how full the tiles are, so conversions are counted (device_physics D.10).
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.hardware.crossbar import Crossbar


class Costs(NamedTuple):
    """Prices in SI units; what no paper tells is a labelled default.

    Attributes:
        read_volts: read voltage, V (MNSIM 2.0; unknown for the 40 nm macro).
        read_seconds: duration of one read, s. Unknown; labelled default.
        adc_bits: resolution priced when the design's ADC is exact. Unknown;
            labelled default.
        dac_joules: one input conversion, J. Unknown; labelled default: the
            board drives rows through analogue switches, taken as free.
        op_joules: one digital operation, J: 300 W / 624 TOPS (device_physics
            D.10, as in Nat. Mach. Intell. 5, 104 (2023)).
        set_joules: one SET, J; unknown, so None leaves it unpriced.
        reset_joules: one RESET, J; likewise.
    """

    read_volts: float = 0.15
    read_seconds: float = 100e-9
    adc_bits: int = 8
    dac_joules: float = 0.0
    op_joules: float = 300 / 624e12
    set_joules: float | None = None
    reset_joules: float | None = None

    def check(self) -> None:
        """Raises UsageError for a negative or absurd price."""
        for name, value in self._asdict().items():
            if value is not None:
                checks.in_range(name, value, 0)
        checks.in_range("adc_bits", self.adc_bits, 1, 24)


class LayerEnergy(NamedTuple):
    """One layer's counts and joules for one example."""

    name: str
    rows: int
    cols: int
    cells: int
    tiles: int
    utilisation: float
    vectors: int
    conversions: int
    joules_array: jax.Array
    joules_adc: float
    joules_dac: float
    joules_digital: float

    @property
    def joules(self) -> jax.Array:
        """All that the layer spends on one example, J."""
        return (
            self.joules_array
            + self.joules_adc
            + self.joules_dac
            + self.joules_digital
        )


def sar_adc_joules(bits: int) -> float:
    """One conversion of a successive-approximation ADC at 45 nm, J.

    (2.1843 b + 11.931) uW * (b + 1) ns, the fit of DNN+NeuroSim 1.4 without
    its column-resistance term.
    """
    return (2.1843 * bits + 11.931) * 1e-6 * (bits + 1) * 1e-9


def digital_joules(operations: float, costs: Costs) -> float:
    """Energy of digital operations (a multiply-accumulate is two), J."""
    return operations * costs.op_joules


def layer(name: str, leaf: Crossbar, vectors: int, costs: Costs) -> LayerEnergy:
    """What one example costs in one layer.

    E = reads * (t V^2 sum G + columns E_ADC + rows E_DAC) + digital (D.10),
    where reads = vectors * input bits * row tiles when inputs are bit-serial.

    Args:
        name: the layer's path.
        leaf: the programmed weight.
        vectors: input vectors that one example sends through the layer.
        costs: prices.

    Returns:
        The ledger's row; joules are of one example.
    """
    spec = leaf.spec
    inputs, outputs = math.prod(leaf.shape[:-1]), leaf.shape[-1]
    row_tiles, column_tiles = spec.tiles(inputs, outputs)
    planes = (spec.input_bits or 1) if spec.bit_serial else 1
    reads = vectors * planes
    conversions = reads * row_tiles * outputs
    conductance = jnp.sum(leaf.conductance())
    # Adding the planes and tiles of an output, and its scale.
    operations = conversions + vectors * outputs
    return LayerEnergy(
        name=name,
        rows=inputs,
        cols=outputs,
        cells=2 * inputs * outputs,
        tiles=row_tiles * column_tiles,
        utilisation=2
        * inputs
        * outputs
        / (row_tiles * column_tiles * spec.rows * spec.columns),
        vectors=vectors,
        conversions=conversions,
        joules_array=reads
        * costs.read_seconds
        * costs.read_volts**2
        * conductance,
        joules_adc=conversions
        * sar_adc_joules(spec.adc_bits or costs.adc_bits),
        joules_dac=reads * inputs * costs.dac_joules,
        joules_digital=digital_joules(operations, costs),
    )


def programming_joules(
    sets: float, resets: float, costs: Costs
) -> float | None:
    """Energy of switching cells, J; None while a price is unknown.

    A weight that is reinstated takes one SET, a pruned one one RESET (D.10).
    """
    if costs.set_joules is None or costs.reset_joules is None:
        return None
    return sets * costs.set_joules + resets * costs.reset_joules


class Comparison(NamedTuple):
    """A network on hardware beside the same products on a digital device.

    Attributes:
        joules_hardware: one example on the arrays, J.
        joules_gpu: the same multiply-accumulates at `op_joules` each, J.
        reduction: 1 - hardware / GPU.
        gain: GPU / hardware.
    """

    joules_hardware: jax.Array
    joules_gpu: float
    reduction: jax.Array
    gain: jax.Array


def compare(layers: Sequence[LayerEnergy], costs: Costs) -> Comparison:
    """Adds up a ledger and compares it with a digital device."""
    hardware = sum((row.joules for row in layers), start=jnp.zeros(()))
    macs = sum(row.vectors * row.rows * row.cols for row in layers)
    gpu = digital_joules(2 * macs, costs)
    return Comparison(hardware, gpu, 1 - hardware / gpu, gpu / hardware)
