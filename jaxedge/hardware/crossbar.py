"""Crossbar arrays: differential pairs, tiles, converters, read noise.

Letters: I inputs (rows), O outputs (column pairs), T row tiles, R rows of a
tile, K bit planes.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import pytree, static
from jaxedge.hardware import converters
from jaxedge.hardware.devices import Device
from jaxedge.hardware.masked import MaskedRandom
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
        adc_bits: resolution of the ADC; None is exact.
        read: "vector" draws the noise of every cell anew for each vector, in
            its exact output-referred form; "batch" draws every cell once a
            call (device_physics D.3).
    """

    device: Device[Any]
    seconds: ArrayLike = 0.0
    adc_range: ArrayLike = 1.0
    rows: int = static(512)
    columns: int = static(512)
    input_bits: int | None = static(None)
    bit_serial: bool = static(False)
    adc_bits: int | None = static(None)
    read: str = static("vector")

    def check(self) -> None:
        """Raises UsageError for a design that cannot be."""
        self.device.check()
        checks.in_range("seconds", self.seconds, 0)
        checks.in_range("adc_range", self.adc_range, 0, 1, open_low=True)
        checks.in_range("rows", self.rows, 1)
        checks.in_range("columns", self.columns, 2)
        converters.check_bits("input_bits", self.input_bits)
        converters.check_bits("adc_bits", self.adc_bits)
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
        weights = jnp.asarray(weights)
        checks.finite("the weight to program", weights)
        matrix = weights.reshape(-1, weights.shape[-1])
        # The mapping is a decision of the programmer, not a gradient path.
        scale = jax.lax.stop_gradient(self.device.weight_scale(matrix))

        def side(name: str, part: jax.Array) -> Any:
            cells = self.device.program(
                stream(key, name), self.device.g_min + part / scale
            )
            if mask is None:
                return cells
            return self.device.reset(cells, mask.reshape(matrix.shape))

        return Crossbar(
            side("positive", jnp.maximum(matrix, 0)),
            side("negative", jnp.maximum(-matrix, 0)),
            scale,
            self,
            tuple(weights.shape),
        )

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
        positive: state of the cells that add, [I, O].
        negative: state of the cells that subtract, [I, O].
        scale: weight per siemens, [].
        spec: the design.
        shape: of the weight, [I, O] or [h, w, I, O].
    """

    positive: Any
    negative: Any
    scale: jax.Array
    spec: Spec
    shape: tuple[int, ...] = static()

    @property
    def by_vector(self) -> bool:  # pyright: ignore
        """Converters act on single vectors, linear reads do not."""
        return (self.spec.input_bits or self.spec.adc_bits) is not None

    def conductance(self) -> tuple[jax.Array, jax.Array]:
        """Mean conductances G+ and G- at the time of reading, S, [I, O]."""
        device, seconds = self.spec.device, self.spec.seconds
        return (
            device.conductance(self.positive, seconds),
            device.conductance(self.negative, seconds),
        )

    def variance(self) -> jax.Array:
        """Variance of one read of G+ - G-, S^2, [I, O]."""
        device, seconds = self.spec.device, self.spec.seconds
        return (
            device.read_std(self.positive, seconds) ** 2
            + device.read_std(self.negative, seconds) ** 2
        )

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        positive, negative = self.conductance()
        variance = None if key is None else self.variance()
        difference = positive - negative
        if variance is not None and self.spec.read == "batch":
            # Both cells of a pair are Gaussian, and so is their difference.
            noise = jax.random.normal(key, variance.shape, variance.dtype)
            difference += jnp.sqrt(variance) * noise
            variance = None
        if not self.by_vector:
            current = _noisy_product(x, difference, variance, product, key)
            return self.scale * current
        limit = jnp.maximum(positive, negative)
        array = (difference, variance, limit)
        return self.scale * self._convert(x, array, key)

    def _convert(self, x, array, key):
        """Quantises inputs, reads tile by tile, adds planes and tiles."""
        spec = self.spec
        if spec.input_bits is None:
            full = jnp.max(jnp.abs(x), -1, keepdims=True)
            full = jax.lax.stop_gradient(full)
            return self._read_tiles(x, full, array, key)
        code, step, low = converters.affine(x, spec.input_bits)
        if spec.bit_serial:
            planes = converters.bit_planes(code, spec.input_bits)
            partial = self._read_tiles(planes, 1.0, array, key)
            powers = 2.0 ** jnp.arange(spec.input_bits)
            total = jnp.tensordot(powers.astype(x.dtype), partial, 1)
        else:
            full = 2.0**spec.input_bits - 1
            total = self._read_tiles(code, full, array, key)
        # W 1 is a constant of the chip, known digitally (D.6).
        return step * total + low * array[0].sum(0)

    def _read_tiles(self, x, full, array, key):
        """[..., I] to [..., O]; inputs span [0, full] or [-full, full]."""
        spec = self.spec
        if spec.adc_bits is None:
            difference, variance, _ = array
            return _noisy_product(x, difference, variance, jnp.matmul, key)
        tiles = spec.tiles(*array[0].shape)[0]
        split = [_row_tiles(a, tiles, spec.rows) for a in array]
        x = _row_tiles(x[..., None], tiles, spec.rows)[..., 0]
        current = _noisy_product(x, *split[:2], _tile_matmul, key)
        # Full scale: every row driven in the strongest column (D.8, MAX).
        limit = spec.adc_range * split[2].sum(1).max(-1)[:, None]
        limit = jax.lax.stop_gradient(limit * jnp.asarray(full)[..., None])
        return converters.uniform(current, -limit, limit, spec.adc_bits).sum(-2)


def _noisy_product(x, matrix, variance, product, key):
    """A product whose cells are read anew for every vector.

    Independent Gaussian noise on every cell adds N(0, sum_i x_i^2 var_ij) to
    an output: exact in distribution, without a draw a cell (D.3).
    """
    y = product(x, matrix)
    if variance is None:
        return y
    power = product(jnp.square(x), variance)
    lit = power > 0  # A dark input adds no noise, and sqrt has no slope at 0.
    std = jnp.where(lit, jnp.sqrt(jnp.where(lit, power, 1)), 0)
    return y + std * jax.random.normal(key, y.shape, y.dtype)


def _tile_matmul(x, tiles):
    """[..., T, R] times [T, R, O] to [..., T, O]."""
    return jnp.einsum("...tr,tro->...to", x, tiles.astype(x.dtype))


def _row_tiles(array, tiles, rows):
    """[..., I, O] to [..., T, R, O]; rows beyond I are not driven."""
    if array is None:
        return None
    *lead, inputs, outputs = array.shape
    pad = [(0, 0)] * len(lead) + [(0, tiles * rows - inputs), (0, 0)]
    return jnp.pad(array, pad).reshape(*lead, tiles, rows, outputs)
