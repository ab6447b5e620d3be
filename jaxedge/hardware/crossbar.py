"""Crossbar designs: cells, pairs, tiles, wires and converters.

Letters: I inputs (rows), O outputs, S slices of a weight, U groups of rows that
are driven at once.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import pytree, static
from jaxedge.hardware import converters, formats, ir_drop, layout, mapping
from jaxedge.hardware.adc import Adc
from jaxedge.hardware.array import READS, WIRES
from jaxedge.hardware.array import Crossbar as Crossbar
from jaxedge.hardware.devices import Device, RandomRram
from jaxedge.hardware.masked import MaskedRandom
from jaxedge.hardware.ranged import Ranged
from jaxedge.hardware.weights import Weight

_SCALES = ("max", "granular")


@pytree
class Spec:
    """A crossbar design; its numbers can be swept, its sizes are static.

    Attributes:
        device: the memory cell.
        seconds: time since programming, s.
        event: number of the programming event: the same chip written again.
        read_volts: voltage of the largest input, V, of cells whose current is
            not linear in it (MNSIM 2.0; unknown for the 40 nm macro).
        adc_range: share of the full scale "max" that the ADC covers, in
            (0, 1].
        r_wire: resistance of a segment of word or bit line, ohm; None has
            ideal wires.
        weight_clip: largest weight in root mean squares, above 0; None clips
            none (see `mapping.map_weights`).
        input_range: limits of the DAC, unit of the inputs, for example of
            `calibration.calibrate`; None gives each vector its own. They have
            gradients.
        adc_limit: full scale of the ADC, S, current per unit of the largest
            input: [], [U] or one for each slice, [S, U], for example of
            `calibration.calibrate`; None takes `full_scale`.
        adc_percentile: share of the currents, per cent, that the ADCs of a
            chip take in once `calibration.fit` has set their `adc_limit`;
            None leaves it.
        input_percentile: likewise of the inputs and `input_range`.
        adc: errors of the converters; None has none.
        wire_trims: see `ir_drop.calibrate`.
        rows: rows of one tile; partial sums of tiles are converted apart and
            added digitally.
        columns: columns of one tile.
        rows_on: rows driven at once, each group converted apart; None drives
            a whole tile.
        pair: "interleaved" has the two cells of a weight side by side,
            "separate" in two arrays; "offset" has one cell and subtracts the
            middle of its range digitally (the offset core of cross-sim).
        packing: "dense" fills all rows of a tile, "even" takes as many of each,
            "kernel" keeps the channels of a place of a kernel in one tile.
        scaling: "column" maps each output to the whole range, "array" all
            outputs together.
        weight_bits: levels of a weight are 2^weight_bits - 1; None is
            continuous.
        weight_format: number format to which weights are rounded before they
            are written, a name of `formats.FORMATS` such as "nvfp4" or
            "fp4_e2m1" (a scale for each output); None rounds none.
        slice_bits: bits of one cell; slices of a weight are read apart and
            added digitally, shifted. None has no slices.
        input_bits: resolution of the inputs; None is exact.
        bit_serial: whether inputs enter one bit plane at a time.
        adc_bits: resolution of the ADC of an output, at least 2: its codes
            are signed, with one at zero (see `converters.signed`); None is
            exact.
        full_scale: without `adc_limit`, "max" is the current of all rows of
            a group in the strongest column, "granular" has an LSB of one
            level of a cell (device_physics D.8).
        wires: "fast" takes `ir_drop.approximate`, "solved" the iteration of
            `wires` for the whole array, thousands of times slower.
        compensate: whether one digital factor an array undoes its mean drift,
            the mean of |G+ - G-| at 0 s over that at `seconds` (the global
            compensation of Joshi et al. 2020, as in aihwkit).
        read: "vector" draws the noise of every cell anew for each vector, in
            its exact output-referred form; "batch" draws every cell once a
            call (device_physics D.3).
    """

    device: Device[Any]
    seconds: ArrayLike = 0.0
    event: ArrayLike = 0
    read_volts: ArrayLike = 0.15
    adc_range: ArrayLike = 1.0
    r_wire: ArrayLike | None = None
    weight_clip: ArrayLike | None = None
    input_range: converters.Range | None = None
    adc_limit: ArrayLike | None = None
    adc_percentile: ArrayLike | None = None
    input_percentile: ArrayLike | None = None
    adc: Adc | None = None
    wire_trims: ir_drop.Trims = ir_drop.Trims()
    rows: int = static(default=512)
    columns: int = static(default=512)
    rows_on: int | None = static(default=None)
    pair: str = static(default="interleaved")
    packing: str = static(default="dense")
    scaling: str = static(default="array")
    weight_bits: int | None = static(default=None)
    weight_format: str | None = static(default=None)
    slice_bits: int | None = static(default=None)
    input_bits: int | None = static(default=None)
    bit_serial: bool = static(default=False)
    adc_bits: int | None = static(default=None)
    full_scale: str = static(default="max")
    wires: str = static(default="fast")
    compensate: bool = static(default=False)
    read: str = static(default="vector")

    @property
    def slices(self) -> int:
        """S: cells that share the bits of a weight."""
        return mapping.slices(self.weight_bits, self.slice_bits, self.pair)

    @property
    def levels(self) -> int:
        """The highest level of a cell, the lowest being 0."""
        return mapping.levels(self.weight_bits, self.slice_bits, self.pair)

    def check(self) -> None:
        """Raises UsageError for a design that cannot be."""
        if not isinstance(self.device, Device):
            raise checks.UsageError(
                f"device is {self.device!r}, but must be a device, such as"
                " devices.get('ideal')."
            )
        self.device.check()
        checks.in_range("seconds", self.seconds, 0)
        if checks.concrete(self.event):
            for event in np.ravel(self.event):
                checks.whole("event", int(event) if event % 1 == 0 else event)
        checks.in_range("read_volts", self.read_volts, 0, open_low=True)
        checks.in_range("adc_range", self.adc_range, 0, 1, open_low=True)
        for name in ("r_wire", "weight_clip", "adc_limit"):
            if (value := getattr(self, name)) is not None:
                checks.in_range(name, value, 0, open_low=name != "r_wire")
        for name in ("adc_percentile", "input_percentile"):
            if (value := getattr(self, name)) is not None:
                checks.in_range(name, value, 0, 100, open_low=True)
        if self.input_range is not None:
            low, high = self.input_range
            checks.ordered("input_range.lo", low, "input_range.hi", high)
        self._check_sizes()
        for name, options in _CHOICES.items():
            checks.choice(name, getattr(self, name), options)
        for name, needed in _NEEDS.items():
            given = getattr(self, name)
            if (
                given is not None
                and given is not False
                and (getattr(self, needed) is None)
            ):
                raise checks.UsageError(
                    f"{name} is {given!r}, but {needed} is None: give"
                    f" {needed}, or leave {name} out."
                )
        if self.adc is not None:
            self.adc.check()
        mapped = self.weight_bits is not None or self.pair == "offset"
        mapped |= self.weight_format is not None
        if mapped and is_random(self.device):
            raise checks.UsageError(
                "an as-formed device holds no given weight, so it has no"
                " weight_bits, no weight_format and no pair='offset'; choose a"
                " device that is programmed."
            )
        if self.weight_format is not None:
            formats.of(self.weight_format)
            if self.weight_bits is not None:
                raise checks.UsageError(
                    f"weight_format is {self.weight_format!r} and weight_bits"
                    f" {self.weight_bits}, whose levels are others; give one of"
                    " the two."
                )

    def _check_sizes(self) -> None:
        checks.whole("rows", self.rows, 1)
        checks.whole("columns", self.columns, 2)
        if self.rows_on is not None:
            checks.whole("rows_on", self.rows_on, 1)
            checks.in_range("rows_on", self.rows_on, high=self.rows)
        converters.check_bits("weight_bits", self.weight_bits, 2)
        converters.check_bits("slice_bits", self.slice_bits)
        converters.check_bits("input_bits", self.input_bits)
        converters.check_bits("adc_bits", self.adc_bits, 2)
        width = self.slices * (2 if self.pair == "interleaved" else 1)
        if width > self.columns:
            raise checks.UsageError(
                f"columns is {self.columns}, but a weight of {self.slices}"
                f" slices takes {width}; use wider tiles or more slice_bits."
            )

    def layout(self, shape: tuple[int, ...]) -> layout.Layout:
        """Where the cells of a weight of this shape lie (D.7)."""
        return layout.plan(
            shape,
            rows=self.rows,
            columns=self.columns,
            rows_on=self.rows_on,
            pair=self.pair,
            slices=self.slices,
            packing=self.packing,
        )

    def program(self, key: jax.Array, w: jax.Array | Weight) -> Crossbar:
        """Programs a weight onto new cells (see `mapping.map_weights`).

        A `MaskedRandom` is written in full and its pruned pairs are reset, so
        that the mask's gradient is the difference of the two physical states
        (device_physics D.4). A `Ranged` brings the range of its inputs, moved
        by up to half a step so that one level is zero.

        Args:
            key: chip key, consumed.
            w: array, `MaskedRandom` or `Ranged`, [I, O] or [h, w, I, O].
        """
        self.check()
        if isinstance(w, Ranged):
            return self._with_inputs(w.input_range).program(key, w.weights)
        weights, mask = w, None
        if isinstance(w, MaskedRandom):
            weights, mask = w.weights, w.mask
            w.check()
            checks.finite("the mask", mask)
            if self.pair == "offset":
                raise checks.UsageError(
                    "a pruned weight is a pair that was reset, but pair is"
                    " 'offset'; use 'interleaved' or 'separate'."
                )
        weights = jnp.asarray(weights)
        checks.finite("the weight to program", weights)
        # Weight per siemens overflows float16 and is coarse in bfloat16.
        wide = jnp.promote_types(weights.dtype, jnp.float32)
        matrix = weights.reshape(-1, weights.shape[-1]).astype(wide)
        if self.weight_format is not None:
            rounded = formats.round_weights(
                matrix, self.weight_format, "vector"
            )
            matrix = rounded.astype(wide)
        mapped = mapping.map_weights(
            matrix,
            self.device,
            pair=self.pair,
            scaling=self.scaling,
            clip=self.weight_clip,
            weight_bits=self.weight_bits,
            slice_bits=self.slice_bits,
        )
        event = self.event
        if not isinstance(event, int):  # Swept, perhaps among floats.
            event = jnp.asarray(event, jnp.int32)
        cells = self.device.program(key, mapped.target, event)
        if mask is not None:
            keep = mask.reshape(1, *matrix.shape)
            cells = self.device.reset(cells, keep)
        shape = tuple(weights.shape)
        columns = None
        if self.adc is not None and self.adc_bits is not None:
            laid = self.layout(shape)
            where = (self.slices, laid.row_tiles, shape[-1])
            columns = self.adc.draw(stream(key, "adc"), where, self.adc_bits)
            # The groups of a tile take turns at its converters.
            columns = jax.tree.map(
                lambda a: jnp.repeat(a, laid.groups, 1), columns
            )
        return Crossbar(
            cells, mapped.scale, self, shape, mapped.origin, columns
        )

    def _with_inputs(self, limits: converters.Range) -> "Spec":
        """The design with a learned range, if it converts its inputs."""
        if self.input_bits is None:
            return self
        limits = converters.with_zero(limits, self.input_bits)
        return dataclasses.replace(
            self, input_range=limits, input_percentile=None
        )

    def tiles(self, inputs: int, outputs: int) -> tuple[int, int]:
        """Row and column tiles of a matrix [inputs, outputs] (D.7)."""
        laid = self.layout((inputs, outputs))
        return laid.row_tiles, laid.column_tiles


_CHOICES = {
    "read": READS,
    "full_scale": _SCALES,
    "wires": WIRES,
    "pair": layout.PAIRS,
    "packing": layout.PACKING,
    "scaling": mapping.SCALES,
}
_NEEDS = {
    "bit_serial": "input_bits",
    "input_range": "input_bits",
    "slice_bits": "weight_bits",
    "adc": "adc_bits",
    "adc_limit": "adc_bits",
    "adc_percentile": "adc_bits",
    "input_percentile": "input_bits",
}


def is_random(device: Any) -> bool:
    """Whether what lies below all wrappers of a device is as-formed."""
    while hasattr(device, "device"):
        device = device.device
    return isinstance(device, RandomRram)
