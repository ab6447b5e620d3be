"""Crossbar arrays: differential pairs, tiles, converters, read noise.

Letters: I inputs (rows), O outputs (column pairs), T row tiles, R rows of a
tile, K bit planes.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.trees import pytree, static
from jaxedge.hardware import converters
from jaxedge.hardware.devices import Device
from jaxedge.hardware.masked import MaskedRandom
from jaxedge.hardware.sampling import draw_if
from jaxedge.hardware.weights import Product, Weight

_READS = ("vector", "batch")


@pytree
class Spec:
    """A crossbar design; its numbers can be swept, its sizes are static.

    Attributes:
        device: the memory cell.
        seconds: time since programming, s.
        adc_range: share of the full scale that the ADC covers, in (0, 1].
        rows: rows of one tile; partial sums of tiles are converted apart and
            added digitally.
        columns: columns of one tile; a weight takes two (interleaved pair).
        input_bits: resolution of the inputs, per vector; None is exact.
        bit_serial: whether inputs enter one bit plane at a time.
        adc_bits: resolution of the ADC of a column pair, at least 2: its codes
            are signed, with one at zero (see `converters.signed`); None is
            exact.
        compensate: whether one digital factor an array undoes its mean drift,
            the mean of |G+ - G-| at 0 s over that at `seconds` (the global
            compensation of Joshi et al. 2020, as in aihwkit).
        read: "vector" draws the noise of every cell anew for each vector, in
            its exact output-referred form; "batch" draws every cell once a
            call (device_physics D.3).
    """

    device: Device[Any]
    seconds: ArrayLike = 0.0
    adc_range: ArrayLike = 1.0
    rows: int = static(default=512)
    columns: int = static(default=512)
    input_bits: int | None = static(default=None)
    bit_serial: bool = static(default=False)
    adc_bits: int | None = static(default=None)
    compensate: bool = static(default=False)
    read: str = static(default="vector")

    def check(self) -> None:
        """Raises UsageError for a design that cannot be."""
        if not isinstance(self.device, Device):
            raise checks.UsageError(
                f"device is {self.device!r}, but must be a device, such as"
                " devices.get('ideal')."
            )
        self.device.check()
        checks.in_range("seconds", self.seconds, 0)
        checks.in_range("adc_range", self.adc_range, 0, 1, open_low=True)
        checks.whole("rows", self.rows, 1)
        checks.whole("columns", self.columns, 2)
        converters.check_bits("input_bits", self.input_bits)
        converters.check_bits("adc_bits", self.adc_bits, 2)
        checks.choice("read", self.read, _READS)
        if self.bit_serial and self.input_bits is None:
            raise checks.UsageError(
                "bit_serial is on, but input_bits is None: give the number of"
                " bit planes."
            )

    def program(self, key: jax.Array, w: jax.Array | Weight) -> "Crossbar":
        """Programs a weight as differential pairs, w = scale (G+ - G-).

        A `MaskedRandom` is written in full and its pruned pairs are reset, so
        that the mask's gradient is the difference of the two physical states
        (device_physics D.4).

        Args:
            key: chip key, consumed.
            w: array or `MaskedRandom`, [I, O] or [h, w, I, O].
        """
        self.check()
        weights, mask = w, None
        if isinstance(w, MaskedRandom):
            weights, mask = w.weights, w.mask
            w.check()
            checks.finite("the mask", mask)
        weights = jnp.asarray(weights)
        checks.finite("the weight to program", weights)
        # Weight per siemens overflows float16 and is coarse in bfloat16.
        wide = jnp.promote_types(weights.dtype, jnp.float32)
        matrix = weights.reshape(-1, weights.shape[-1]).astype(wide)
        # The mapping is a decision of the programmer, not a gradient path.
        scale = jax.lax.stop_gradient(self.device.weight_scale(matrix))

        # Both cells of every pair at once: [2, I, O].
        parts = jnp.stack([jnp.maximum(matrix, 0), jnp.maximum(-matrix, 0)])
        target = self.device.g_min + parts / scale
        # Rounding may lift the largest above the range, where no slope is.
        target = converters.straight_through(
            target, jnp.minimum(target, self.device.g_max)
        )
        cells = self.device.program(key, target)
        if mask is not None:
            keep = mask.reshape(1, *matrix.shape)
            cells = self.device.reset(cells, keep)
        return Crossbar(cells, scale, self, tuple(weights.shape))

    def tiles(self, inputs: int, outputs: int) -> tuple[int, int]:
        """Row and column tiles of a matrix [inputs, outputs] (D.7)."""
        return (
            math.ceil(inputs / self.rows),
            math.ceil(2 * outputs / self.columns),
        )


@pytree
class Crossbar(Weight):
    """A programmed weight.

    Attributes:
        cells: state of the pairs, [2, I, O]: those that add, then those that
            subtract.
        scale: weight per siemens, [].
        spec: the design.
        shape: of the weight, [I, O] or [h, w, I, O].
    """

    cells: Any
    scale: jax.Array
    spec: Spec
    shape: tuple[int, ...] = static()

    @property
    def by_vector(self) -> bool:  # pyright: ignore
        """Converters act on single vectors, linear reads do not."""
        return (self.spec.input_bits or self.spec.adc_bits) is not None

    def conductance(self) -> jax.Array:
        """Mean conductances G+ and G- at the time of reading, S, [2, I, O]."""
        return self.spec.device.conductance(self.cells, self.spec.seconds)

    def compensation(self) -> ArrayLike:
        """Factor that undoes the mean drift of the array, []; 1 if not used."""
        if not self.spec.compensate:
            return 1.0

        def size(seconds: ArrayLike) -> jax.Array:
            g = self.spec.device.conductance(self.cells, seconds)
            return jnp.mean(jnp.abs(g[0] - g[1]))

        now = size(self.spec.seconds)
        return jnp.where(now > 0, size(0.0) / jnp.where(now > 0, now, 1), 1)

    def variance(self) -> jax.Array:
        """Variance of one read of G+ - G-, S^2, [I, O]."""
        std = self.spec.device.read_std(self.cells, self.spec.seconds)
        return jnp.sum(std**2, 0)

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        array = self._array(key)
        # Siemens squared, near 1e-12, are below float16; codes of more than 8
        # bits are beyond bfloat16.
        if self.by_vector or x.dtype == jnp.float16:
            x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        scale = self.scale * self.compensation()
        if not self.by_vector:
            return scale * _noisy_product(x, array, product, key)
        return scale * self._convert(x, array, key)

    def _array(self, key: jax.Array | None) -> "_Array":
        """What a call with this read key sees."""
        positive, negative = self.conductance()
        difference = positive - negative
        if key is None:
            return _Array(difference, None)
        variance = self.variance()
        if self.spec.read == "vector":
            return _Array(difference, variance)
        # Both cells of a pair are Gaussian, and so is their difference.
        noise = jax.random.normal(key, variance.shape, variance.dtype)
        difference += jnp.sqrt(variance) * noise
        return _Array(difference, None)

    def _convert(
        self, x: jax.Array, array: "_Array", key: jax.Array | None
    ) -> jax.Array:
        """Quantises inputs, reads tile by tile, adds planes and tiles."""
        spec = self.spec
        if spec.input_bits is None:
            full = jnp.max(jnp.abs(x), -1, keepdims=True)
            return self._read_tiles(x, jax.lax.stop_gradient(full), array, key)
        code, step, low = converters.affine(x, spec.input_bits)
        if spec.bit_serial:
            planes = converters.bit_planes(code, spec.input_bits)
            partial = self._read_tiles(planes, 1.0, array, key)
            powers = 2.0 ** jnp.arange(spec.input_bits)
            total = jnp.tensordot(powers.astype(partial.dtype), partial, 1)
        else:
            full = 2.0**spec.input_bits - 1
            total = self._read_tiles(code, full, array, key)
        # W 1 is a constant of the chip, known digitally (D.6): no read noise.
        positive, negative = self.conductance()
        column = (positive - negative).sum(0)
        return step * total + low * jnp.broadcast_to(column, total.shape)

    def _read_tiles(
        self,
        x: jax.Array,
        full: ArrayLike,
        array: "_Array",
        key: jax.Array | None,
    ) -> jax.Array:
        """[..., I] to [..., O]; inputs span [0, full] or [-full, full]."""
        spec = self.spec
        if spec.adc_bits is None:
            return _noisy_product(x, array, jnp.matmul, key)
        tiles = spec.tiles(*array.difference.shape)[0]
        split = jax.tree.map(lambda a: _row_tiles(a, tiles, spec.rows), array)
        x = _row_tiles(x[..., None], tiles, spec.rows)[..., 0]
        current = _noisy_product(x, split, _tile_matmul, key)
        # Full scale: every row driven in the strongest column (D.8, MAX).
        column = _row_tiles(self.conductance().max(0), tiles, spec.rows).sum(1)
        limit = spec.adc_range * column.max(-1, keepdims=True)
        full = jnp.broadcast_to(jnp.asarray(full)[..., None], current.shape)
        limit = jax.lax.stop_gradient(
            full * jnp.broadcast_to(limit, current.shape)
        )
        return converters.signed(current, limit, spec.adc_bits).sum(-2)


class _Array(NamedTuple):
    """A matrix as one call reads it.

    Attributes:
        difference: G+ - G-, S, [..., R, O].
        variance: of one read of it, S^2, same shape; None without noise.
    """

    difference: jax.Array
    variance: jax.Array | None


def _noisy_product(
    x: jax.Array, array: _Array, product: Product, key: jax.Array | None
) -> jax.Array:
    """A product whose cells are read anew for every vector.

    Independent Gaussian noise on every cell adds N(0, sum_i x_i^2 var_ij) to
    an output: exact in distribution, without a draw a cell (D.3).
    """
    y = product(x, array.difference)
    if array.variance is None or key is None:
        return y
    power = product(jnp.square(x), array.variance)
    # sqrt has no slope at 0, where no input is lit.
    std = jnp.sqrt(jnp.maximum(power, jnp.finfo(y.dtype).tiny))
    noisy = jnp.any(array.variance > 0)
    return y + std * draw_if(noisy, jax.random.normal, key, y.shape, y.dtype)


def _tile_matmul(x: jax.Array, tiles: jax.Array) -> jax.Array:
    """[..., T, R] times [T, R, O] to [..., T, O]."""
    return jnp.einsum("...tr,tro->...to", x, tiles.astype(x.dtype))


def _row_tiles(array: jax.Array, tiles: int, rows: int) -> jax.Array:
    """[..., I, O] to [..., T, R, O]; rows beyond I are not driven."""
    *lead, inputs, outputs = array.shape
    pad = [(0, 0)] * len(lead) + [(0, tiles * rows - inputs), (0, 0)]
    return jnp.pad(array, pad).reshape(*lead, tiles, rows, outputs)
