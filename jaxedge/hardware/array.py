"""A programmed array, and how it is read.

Letters: I inputs (rows), O outputs, S slices of a weight, P cells of a slice, U
groups of rows that are driven at once, R rows of a group, K bit planes, N
arrays side by side, C columns of one.
"""

from collections.abc import Iterator
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core.keys import stream
from jaxedge.core.trees import pytree, static
from jaxedge.hardware import converters, ir_drop, sampling
from jaxedge.hardware.adc import Columns
from jaxedge.hardware.drives import Drive, with_row
from jaxedge.hardware.layout import Layout
from jaxedge.hardware.noise import Seen, noisy_product, tile_matmul
from jaxedge.hardware.weights import Product, Weight

READS = ("vector", "batch")
WIRES = ("fast", "solved")


@pytree
class Crossbar(Weight):
    """A programmed weight.

    Attributes:
        cells: state of the cells, [P, I, O], or [S, P, I, O] with slices; of a
            pair first those that add, then those that subtract.
        scale: weight per siemens, [] or [O].
        spec: the design, a `crossbar.Spec`.
        shape: of the weight, [I, O] or [h, w, I, O].
        origin: conductance that is subtracted digitally, S, [].
        columns: converters of this chip, [S, U, O]; None are without error.
    """

    cells: Any
    scale: jax.Array
    spec: Any
    shape: tuple[int, ...] = static()
    origin: ArrayLike = 0.0
    columns: Columns | None = None

    @property
    def by_vector(self) -> bool:  # pyright: ignore
        """Converters and bent cells act on single vectors."""
        spec = self.spec
        converted = (spec.input_bits or spec.adc_bits) is not None
        return converted or not spec.device.linear

    @property
    def layout(self) -> Layout:
        """Where the cells lie."""
        return self.spec.layout(self.shape)

    def conductance(self) -> jax.Array:
        """Mean conductances at the time of reading, S, shape of the cells."""
        return self.spec.device.conductance(self.cells, self.spec.seconds)

    def weights(self) -> jax.Array:
        """What the array holds, read without noise, in its shape.

        Without global compensation and converters; the first term of cells
        whose I-V curve is bent.
        """
        matrix = self._weights(self._see(None)).matrices[0]
        scale = jnp.broadcast_to(self.scale, matrix.shape)
        return (scale * matrix).reshape(self.shape)

    def compensation(self) -> ArrayLike:
        """Factor that undoes the mean drift of the array, []; 1 if not used."""
        if not self.spec.compensate:
            return 1.0

        def size(seconds: ArrayLike) -> jax.Array:
            g = self.spec.device.conductance(self.cells, seconds)
            return jnp.mean(jnp.abs(self._combine(g)))

        now = size(self.spec.seconds)
        return jnp.where(now > 0, size(0.0) / jnp.where(now > 0, now, 1), 1)

    def variance(self) -> jax.Array:
        """Variance of one read of G+ - G-, S^2, [I, O] or [S, I, O]."""
        std = self.spec.device.read_std(self.cells, self.spec.seconds)
        return _power(std)

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        # Siemens squared, near 1e-12, are below float16; codes of more than 8
        # bits are beyond bfloat16.
        if self.by_vector or x.dtype == jnp.float16:
            x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        seen = self._see(key)
        if not self.by_vector:
            y = noisy_product((x,), self._weights(seen), product, key)
            return self._scaled(y)
        spec, drive = self.spec, self._drive(x)
        if drive.step is None or drive.low is None:
            return self._scaled(self._read(drive, seen, key))
        # W 1 is a constant of the chip, known digitally (D.6): no read noise.
        column = self._weights(self._see(None)).matrices[0].sum(0)
        if self._direct:
            at_once = drive.whole(), with_row(self._sum(seen), column)
            return self._scaled(noisy_product(*at_once, jnp.matmul, key))
        total = self._read(drive, seen, key)
        if spec.bit_serial:
            powers = 2.0 ** jnp.arange(spec.input_bits)
            total = jnp.tensordot(powers.astype(total.dtype), total, 1)
        low = drive.low * jnp.broadcast_to(column, total.shape)
        return self._scaled(drive.step * total + low)

    def split(self, groups: int) -> "Crossbar":
        def every(number: ArrayLike) -> jax.Array:
            return jnp.broadcast_to(number, (groups, *jnp.shape(number)))

        def parts(a: jax.Array, axis: int) -> jax.Array:
            # A ramp is shared, and what is one number of the whole.
            if not jnp.ndim(a) or a.shape[axis] == 1:
                return every(a)
            return jnp.stack(jnp.split(a, groups, axis))

        scale = every(self.scale)
        if jnp.ndim(self.scale):
            scale = parts(self.scale, -1)
        columns = self.columns
        if columns is not None:
            *plain, weights = columns
            if weights is not None:
                weights = parts(weights, -2)
            gain, offset, bow = (parts(a, -1) for a in plain)
            columns = Columns(gain, offset, bow, weights)
        return Crossbar(
            cells=jax.tree.map(lambda a: parts(a, -1), self.cells),
            scale=scale,
            spec=jax.tree.map(every, self.spec),
            shape=(*self.shape[:-1], self.shape[-1] // groups),
            origin=every(self.origin),
            columns=columns,
        )

    def currents(
        self, x: jax.Array, key: jax.Array | None = None
    ) -> list[jax.Array]:
        """What the converters of each slice get, per unit of the largest input.

        Args:
            x: [..., I].
            key: read key, consumed; None reads without noise.

        Returns:
            S arrays of siemens, [..., U, O]; bit planes first, if inputs are
            serial.
        """
        drive = self._drive(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
        split = jax.tree.map(self.layout.split, self._see(key))
        widest = jnp.asarray(drive.full)[..., None]
        safe = jnp.where(widest > 0, widest, 1)
        return [
            y / jnp.broadcast_to(safe, y.shape)
            for y in self._partial(drive, split, key)
        ]

    def limit(self, s: int = 0) -> jax.Array:
        """Full scale of the ADC of a slice, S, broadcastable to [U, O].

        Current per unit of the largest input.
        """
        spec, laid = self.spec, self.layout
        if spec.adc_limit is not None:
            limit = jnp.asarray(spec.adc_limit)
            limit = limit[s] if limit.ndim == 2 else limit
            return limit[:, None] if limit.ndim else limit
        if spec.full_scale == "granular":
            span = jnp.subtract(spec.device.g_max, spec.device.g_min)
            levels = 2 ** (spec.adc_bits - 1) - 1
            # `_digitise` halves the range of currents of one sign.
            return span / spec.levels * levels * (2 if self._one_sided else 1)
        # Every row driven in the strongest column (D.8, MAX).
        column = laid.split(self._sliced(self._strongest())[s].max(0)).sum(1)
        return spec.adc_range * column.max(-1, keepdims=True)

    @property
    def _offset(self) -> bool:
        """Whether a weight is one cell about a middle, and no pair."""
        return self.layout.parts == 1

    @property
    def _direct(self) -> bool:
        """Whether outputs are linear in the codes, without a constant."""
        spec = self.spec
        whole = spec.adc_bits is None and not spec.bit_serial
        return whole and spec.device.linear and not self._offset

    @property
    def _one_sided(self) -> bool:
        """Whether all currents have one sign: single cells, coded inputs."""
        return self._offset and self.spec.input_bits is not None

    def _strongest(self) -> jax.Array:
        """Largest current of each cell per unit of the read voltage, S."""
        device, g = self.spec.device, self.conductance()
        if device.linear:
            return g
        ends = [
            sum(t.drive * t.siemens for t in device.curve(v, g)) / v
            for v in (self.spec.read_volts, -jnp.asarray(self.spec.read_volts))
        ]
        return jnp.maximum(*ends)

    def _scaled(self, y: Any) -> jax.Array:
        """Outputs in units of the weights."""
        scale = self.scale * self.compensation()
        return jnp.broadcast_to(scale, y.shape) * y

    def _sliced(self, a: jax.Array) -> jax.Array:
        """Cells as [S, P, I, O]."""
        laid = self.layout
        return a.reshape(laid.slices, laid.parts, laid.inputs, laid.outputs)

    def _combine(self, g: jax.Array) -> jax.Array:
        """What a column pair reads of cells [..., P, I, O]."""
        if self._offset:
            return g[..., 0, :, :]
        return g[..., 0, :, :] - g[..., 1, :, :]

    def _zero(self) -> ArrayLike:
        """Conductance that stands for no weight at the time of reading, S."""
        return jnp.divide(self.origin, self.compensation())

    def _see(self, key: jax.Array | None) -> Seen:
        """What a call with this read key sees, [I, O] or [S, I, O]."""
        spec = self.spec
        g = self.conductance()
        kept = None if spec.r_wire is None else self._kept(g)
        terms = spec.device.curve(jnp.zeros(()), g)
        matrices = tuple(
            self._combine(t.siemens if kept is None else kept * t.siemens)
            for t in terms
        )
        if key is None:
            return Seen(matrices, None)
        if kept is None:
            variance = self.variance()
        else:
            # A cell's noise is lost twice: by its drive and on its way out.
            std = spec.device.read_std(self.cells, spec.seconds)
            variance = _power(kept**2 * std)
        if spec.read == "vector":
            return Seen(matrices, variance)
        # Both cells of a pair are Gaussian, and so is their difference.
        noise = jnp.sqrt(variance) * sampling.normal(
            key, variance.shape, variance.dtype
        )
        return Seen(tuple(matrix + noise for matrix in matrices), None)

    def _kept(self, g: jax.Array) -> jax.Array:
        """Share of its current that each cell keeps on resistive wires."""
        spec, laid = self.spec, self.layout
        # The first row of a tile lies next to the grounds.
        lines = jnp.flip(laid.lines(self._sliced(g)), -2)
        below = [u % laid.groups * laid.group for u in range(laid.units)]
        ohm = spec.r_wire
        if spec.wires == "solved":
            kept = ir_drop.solved(lines, ohm, below)
        else:
            kept = ir_drop.kept(
                lines,
                r_word=ohm,
                r_bit=ohm,
                trims=spec.wire_trims,
                below=jnp.array(below)[None, :, None, None],
            )
        return laid.cells_of(jnp.flip(kept, -2)).reshape(g.shape)

    def _powers(self) -> list[int]:
        """What a slice counts beside the least one."""
        bits = self.spec.slice_bits or 0
        return [2 ** (bits * s) for s in range(self.layout.slices)]

    def _sum(self, seen: Seen) -> Seen:
        """All slices as one array, [I, O]."""
        if self.layout.slices == 1:
            return seen
        powers = jnp.array(self._powers(), seen.matrices[0].dtype)
        matrices = tuple(jnp.tensordot(powers, m, 1) for m in seen.matrices)
        variance = seen.variance
        if variance is not None:
            variance = jnp.tensordot(powers**2, variance, 1)
        return Seen(matrices, variance)

    def _weights(self, seen: Seen) -> Seen:
        """All slices as one linear array that holds the weights alone."""
        (matrix, *_), variance = self._sum(seen)
        return Seen(
            (matrix - self._zero() if self._offset else matrix,), variance
        )

    def _drive(self, x: jax.Array) -> Drive:
        """What the rows of the array get for some inputs."""
        spec = self.spec
        if spec.input_bits is None:
            full = jnp.max(jnp.abs(x), -1, keepdims=True)
            return Drive(x, jax.lax.stop_gradient(full))
        coded = converters.affine(x, spec.input_bits, spec.input_range)
        code, step, low = coded
        if spec.bit_serial:
            planes = converters.bit_planes(code, spec.input_bits)
            return Drive(planes, 1.0, step, low)
        return Drive(code, 2.0**spec.input_bits - 1, step, low)

    def _volts(self, drive: Drive) -> tuple[jax.Array, ...]:
        """Drives of the terms of the I-V law, in units of the codes."""
        device = self.spec.device
        if device.linear:
            return (drive.codes,)
        # The largest code is the read voltage; without inputs none is.
        unit = drive.full / jnp.asarray(self.spec.read_volts)
        unit = jnp.broadcast_to(unit, drive.codes.shape)
        volts = drive.codes / jnp.where(unit > 0, unit, 1)
        terms = device.curve(volts, jnp.zeros(()))
        return tuple(unit * t.drive for t in terms)

    def _partial(
        self, drive: Drive, split: Seen, key: jax.Array | None
    ) -> Iterator[jax.Array]:
        """Partial sums of every slice, [..., U, O]."""
        laid = self.layout
        x = tuple(laid.split(d[..., None])[..., 0] for d in self._volts(drive))
        if laid.slices == 1:
            split = jax.tree.map(lambda a: a.reshape(1, *a.shape[-3:]), split)
        for s in range(laid.slices):
            array = jax.tree.map(lambda a: a[s], split)  # noqa: B023
            noise = key
            if key is not None and laid.slices > 1:
                noise = stream(key, "slice", s)
            yield noisy_product(x, array, tile_matmul, noise)

    def _read(
        self, drive: Drive, seen: Seen, key: jax.Array | None
    ) -> jax.Array:
        """The products of the codes, converted group by group, [..., O]."""
        if self.spec.adc_bits is None:
            volts = self._volts(drive)
            total = noisy_product(volts, self._sum(seen), jnp.matmul, key)
        else:
            total = self._converted(drive, seen, key)
        if self._offset:  # What cells in the middle of the range would pass.
            terms = self.spec.device.curve(
                jnp.zeros(()), jnp.asarray(self._zero())
            )
            for volts, term in zip(self._volts(drive), terms, strict=True):
                total -= term.siemens * jnp.sum(volts, -1, keepdims=True)
        return total

    def _converted(
        self, drive: Drive, seen: Seen, key: jax.Array | None
    ) -> jax.Array:
        """What the converters add up to, [..., O]."""
        split = jax.tree.map(self.layout.split, seen)
        total: Any = 0.0
        partial = self._partial(drive, split, key)
        for s, (power, current) in enumerate(
            zip(self._powers(), partial, strict=True)
        ):
            widest = jnp.asarray(drive.full)[..., None]
            limit = jnp.broadcast_to(widest, current.shape) * jnp.broadcast_to(
                self.limit(s), current.shape
            )
            limit = jax.lax.stop_gradient(limit)
            total += power * self._digitise(current, limit, s, key).sum(-2)
        return total

    def _digitise(
        self, current: jax.Array, limit: jax.Array, s: int, key: Any
    ) -> jax.Array:
        """What the converters make of the partial sums of a slice."""
        spec = self.spec
        # Single cells and codes give currents of one sign: the zero of the
        # converter then stands in the middle of its range.
        middle = 0.0
        if self._one_sided:
            limit = limit / 2
            middle = limit
        if self.columns is None:
            value = converters.signed(current - middle, limit, spec.adc_bits)
        else:
            columns = jax.tree.map(lambda a: a[s], self.columns)
            noise = None if key is None else stream(key, "rounding", s)
            value = spec.adc.convert(
                current - middle, limit, spec.adc_bits, columns, noise
            )
        return value + middle


def _power(std: jax.Array) -> jax.Array:
    """Variance of the sum of both cells of a pair, [..., I, O]."""
    # XLA on CPU sums over an axis of two several times more slowly.
    cells = [jnp.square(std[..., i, :, :]) for i in range(std.shape[-3])]
    return functools.reduce(jnp.add, cells)
