"""Energy, latency and area: count reads and conversions, then price them.

The energy of an operation is not a constant of an analogue array: it depends
on how full the tiles are, so conversions are counted (device_physics D.10).
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.hardware import components, formats
from jaxedge.hardware.components import sar_adc_joules as sar_adc_joules
from jaxedge.hardware.crossbar import Crossbar
from jaxedge.hardware.digital import Digital
from jaxedge.hardware.operations import Product
from jaxedge.hardware.sram.macro import SramMacro


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
        adc: a converter of `components`; "neurosim_sar" has any resolution.
        adc_columns: outputs that take turns at one ADC. Unknown; labelled
            default.
        memory_joules: moving one byte of an input or output, J. Unknown;
            labelled default: nothing.
        cell_square_metres: one cell with its selector, m^2; unknown for the
            40 nm macro, so None leaves it out. (MNSIM 2.0 has 1.44e-12.)
        op_rate: digital operations a second of the device compared with, 1/s:
            624 TOPS.
        macro_joules: one conversion of a column of 64 rows on an in-SRAM
            macro, its products included, J: 128 operations at the 137.5 TOPS/W
            of arXiv:2307.05944, whose basis is unknown. Other columns in
            proportion to their rows.
        macro_share: part of it that is drawn by the lines, at
            `macro_drop`, in [0, 1]. Unknown; labelled default: nothing.
        macro_drop: mean drop of a line over its swing at which `macro_joules`
            holds, above 0. Unknown; labelled default.
    """

    read_volts: float = 0.15
    read_seconds: float = 100e-9
    adc_bits: int = 8
    dac_joules: float = 0.0
    op_joules: float = 300 / 624e12
    set_joules: float | None = None
    reset_joules: float | None = None
    adc: str = "neurosim_sar"
    adc_columns: int = 1
    memory_joules: float = 0.0
    cell_square_metres: float | None = None
    op_rate: float = 624e12
    macro_joules: float = 128 / 137.5e12
    macro_share: float = 0.0
    macro_drop: float = 0.25

    def check(self) -> None:
        """Raises UsageError for a negative or absurd price."""
        for name, value in self._asdict().items():
            if value is not None and name != "adc":
                checks.in_range(name, value, 0)
        checks.in_range("adc_bits", self.adc_bits, 1, 24)
        checks.whole("adc_columns", self.adc_columns, 1)
        checks.in_range("macro_share", self.macro_share, 0, 1)
        checks.in_range("macro_drop", self.macro_drop, 0, 1, open_low=True)
        checks.choice("adc", self.adc, components.ADC_NAMES)


class LayerEnergy(NamedTuple):
    """One layer's counts, joules and seconds for one example, and its area.

    `square_metres` is that of the cells and of the ADCs; None while a part of
    it is unknown. A digital chip has no cells, tiles and converters, and no
    `utilisation`.
    """

    name: str
    rows: int
    cols: int
    cells: int
    tiles: int
    utilisation: float | None
    vectors: int
    conversions: int
    joules_array: jax.Array
    joules_adc: float
    joules_dac: float
    joules_digital: float
    joules_memory: float
    seconds: float
    adcs: int
    square_metres: float | None

    @property
    def product(self) -> Product:
        """The layer's sizes, for a count of operations."""
        return Product(self.vectors, self.rows, self.cols)

    @property
    def joules(self) -> jax.Array:
        """All that the layer spends on one example, J."""
        return (
            self.joules_array
            + self.joules_adc
            + self.joules_dac
            + self.joules_digital
            + self.joules_memory
        )


def digital_joules(operations: float, costs: Costs) -> float:
    """Energy of digital operations (a multiply-accumulate is two), J."""
    return operations * costs.op_joules


def layer(
    name: str,
    leaf: Crossbar | SramMacro | Digital,
    vectors: int,
    costs: Costs,
    drop: ArrayLike | None = None,
) -> LayerEnergy:
    """What one example costs in one layer.

    E = reads * (t V^2 sum G + columns E_ADC + rows E_DAC) + digital + memory
    (D.10): a vector takes as many reads as inputs have bit planes, and a tile
    as many as it has groups of rows. Tiles work side by side; a read lasts as
    long as its conversions take turns.

    An in-SRAM macro has one price for a conversion with its products, whether
    or not all rows are used, and takes `read_seconds`; it is told as that of
    the array. What its lines draw is proportional to their drop (sram_cim 5.3).

    A digital chip has two operations for each product, at `op_joules` and
    `op_rate` whatever the format: what few bits save is unknown.

    Args:
        name: the layer's path.
        leaf: the programmed weight.
        vectors: input vectors that one example sends through the layer.
        costs: prices.
        drop: of a macro, mean drop of a line over its swing, for example
            `sram.Choice.line`; None takes `costs.macro_drop`.

    Returns:
        The ledger's row; joules and seconds are of one example.

    Raises:
        UsageError: for an ADC of fewer bits than the design's, or a drop of
            what is no macro.
    """
    if isinstance(leaf, SramMacro):
        return _macro(name, leaf, vectors, costs, drop)
    if drop is not None:
        raise checks.UsageError(
            f"drop is {drop}, but {name} is a {type(leaf).__name__}, whose"
            " energy does not depend on it; leave it out."
        )
    if isinstance(leaf, Digital):
        return _digital(name, leaf, vectors, costs)
    spec, laid = leaf.spec, leaf.layout
    adc = components.adc(costs.adc, spec.adc_bits or costs.adc_bits)
    planes = (spec.input_bits or 1) if spec.bit_serial else 1
    reads = vectors * planes
    converters = laid.row_tiles * laid.slices * laid.outputs
    conversions = reads * laid.groups * converters
    conductance = jnp.sum(leaf.conductance())
    # Adding the planes, slices and groups of an output, and its scale.
    operations = conversions + vectors * laid.outputs
    # A converter of a tile serves columns of that tile alone.
    in_tile = min(laid.tile_weights, laid.outputs) * laid.slices
    turns = min(costs.adc_columns, in_tile)
    adcs = math.ceil(converters / turns)
    moved = vectors * (
        laid.inputs * (spec.input_bits or 8) + laid.outputs * adc.bits
    )
    area = None
    if costs.cell_square_metres is not None and adc.square_metres is not None:
        whole = laid.arrays * spec.rows * spec.columns
        area = whole * costs.cell_square_metres + adcs * adc.square_metres
    return LayerEnergy(
        name=name,
        rows=laid.inputs,
        cols=laid.outputs,
        cells=laid.cells,
        tiles=laid.arrays,
        utilisation=laid.cells / (laid.arrays * spec.rows * spec.columns),
        vectors=vectors,
        conversions=conversions,
        joules_array=reads
        * costs.read_seconds
        * costs.read_volts**2
        * conductance,
        joules_adc=conversions * adc.joules,
        joules_dac=reads * laid.inputs * costs.dac_joules,
        joules_digital=digital_joules(operations, costs),
        joules_memory=moved / 8 * costs.memory_joules,
        seconds=reads
        * laid.groups
        * (costs.read_seconds + turns * adc.seconds),
        adcs=adcs,
        square_metres=area,
    )


def _macro(
    name: str,
    leaf: SramMacro,
    vectors: int,
    costs: Costs,
    drop: ArrayLike | None,
) -> LayerEnergy:
    config, laid = leaf.spec.config, leaf.layout
    columns = laid.row_tiles * laid.outputs
    conversions = vectors * columns
    drop = costs.macro_drop if drop is None else drop
    lines = costs.macro_share * jnp.asarray(drop) / costs.macro_drop
    each = (
        costs.macro_joules * config.rows / 64 * (1 - costs.macro_share + lines)
    )
    moved = vectors * (
        laid.inputs * config.x_bits + laid.outputs * config.out_bits
    )
    # Adding the arrays of an output, and its scale.
    operations = conversions + vectors * laid.outputs
    return LayerEnergy(
        name=name,
        rows=laid.inputs,
        cols=laid.outputs,
        cells=laid.inputs * laid.outputs * config.w_bits,
        tiles=laid.arrays,
        utilisation=laid.inputs / (laid.row_tiles * config.rows),
        vectors=vectors,
        conversions=conversions,
        joules_array=conversions * each,
        joules_adc=0.0,
        joules_dac=vectors * laid.inputs * costs.dac_joules,
        joules_digital=digital_joules(operations, costs),
        joules_memory=moved / 8 * costs.memory_joules,
        seconds=vectors * costs.read_seconds,
        adcs=columns,
        square_metres=None,
    )


def _digital(
    name: str, leaf: Digital, vectors: int, costs: Costs
) -> LayerEnergy:
    outputs = leaf.shape[-1]
    inputs = leaf.size // outputs
    form = leaf.spec.inputs
    # Sums are float32, and so are inputs without a format.
    moved = vectors * (
        inputs * (32 if form is None else formats.bits(form)) + outputs * 32
    )
    operations = 2 * vectors * inputs * outputs
    return LayerEnergy(
        name=name,
        rows=inputs,
        cols=outputs,
        cells=0,
        tiles=0,
        utilisation=None,
        vectors=vectors,
        conversions=0,
        joules_array=jnp.zeros(()),
        joules_adc=0.0,
        joules_dac=0.0,
        joules_digital=digital_joules(operations, costs),
        joules_memory=moved / 8 * costs.memory_joules,
        seconds=operations / costs.op_rate,
        adcs=0,
        square_metres=None,
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
        seconds_hardware: one example through all layers, one after another, s.
        seconds_slowest: through the slowest layer, s: one over the examples a
            second of a chip whose layers work side by side.
        seconds_gpu: the multiply-accumulates at `op_rate`, full, s.
        square_metres: of cells and ADCs; None while a part is unknown.
    """

    joules_hardware: jax.Array
    joules_gpu: float
    reduction: jax.Array
    gain: jax.Array
    seconds_hardware: float
    seconds_slowest: float
    seconds_gpu: float
    square_metres: float | None


def compare(layers: Sequence[LayerEnergy], costs: Costs) -> Comparison:
    """Adds up a ledger and compares it with a digital device."""
    hardware = sum((row.joules for row in layers), start=jnp.zeros(()))
    macs = sum(row.vectors * row.rows * row.cols for row in layers)
    gpu = digital_joules(2 * macs, costs)
    areas = [row.square_metres for row in layers]
    known = [area for area in areas if area is not None]
    return Comparison(
        joules_hardware=hardware,
        joules_gpu=gpu,
        reduction=1 - hardware / gpu,
        gain=gpu / hardware,
        seconds_hardware=sum(row.seconds for row in layers),
        seconds_slowest=max((row.seconds for row in layers), default=0.0),
        seconds_gpu=2 * macs / costs.op_rate,
        square_metres=sum(known) if len(known) == len(areas) else None,
    )
