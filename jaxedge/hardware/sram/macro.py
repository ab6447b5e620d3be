"""Weights of a network on in-SRAM compute macros.

Letters: I inputs, O outputs, T arrays along the inputs, N rows of one.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.core import checks
from jaxedge.core.trees import pytree, static
from jaxedge.hardware import converters, layout, mapping
from jaxedge.hardware.converters import Range
from jaxedge.hardware.masked import MaskedRandom
from jaxedge.hardware.noise import tile_matmul
from jaxedge.hardware.ranged import Ranged
from jaxedge.hardware.sram import columns as cells
from jaxedge.hardware.sram import conversion
from jaxedge.hardware.sram.columns import Columns
from jaxedge.hardware.sram.config import Config
from jaxedge.hardware.weights import Product, Weight


@pytree
class Spec:
    """How weights come onto macros.

    Attributes:
        config: the macro.
        input_range: of the inputs, unit of theirs; None gives each vector its
            own. Unsigned inputs are coded from `lo` on, which is a constant of
            the column; signed ones up to the larger of |lo| and |hi|.
        input_percentile: share of the inputs, per cent, that `calibration.fit`
            takes in; None leaves `input_range`.
        clip_rate: share of the conversions that may clip, in [0, 1], where
            `calibration.fit` chooses `config.fold` and `config.lsb_units` for
            the least predicted error; None leaves them.
        weight_clip: largest weight in root mean squares, above 0; None clips
            none.
        scaling: "array" has one largest weight, "column" one an output.
        path: how conversions are computed, see `conversion.read`.
    """

    config: Config = Config()
    input_range: Range | None = None
    input_percentile: ArrayLike | None = None
    clip_rate: ArrayLike | None = None
    weight_clip: ArrayLike | None = None
    scaling: str = static(default="array")
    path: str = static(default="exact")

    @property
    def input_bits(self) -> int:
        """Resolution of the inputs, as of a crossbar."""
        return self.config.x_bits

    def check(self) -> None:
        """Raises UsageError for a design that cannot be."""
        if not isinstance(self.config, Config):
            raise checks.UsageError(
                f"config is {self.config!r}, but must be a sram.Config."
            )
        self.config.check()
        checks.choice("scaling", self.scaling, mapping.SCALES)
        checks.choice("path", self.path, conversion.PATHS)
        if self.input_range is not None:
            low, high = self.input_range
            checks.ordered("input_range.lo", low, "input_range.hi", high)
        for name, high, open_low in (
            ("input_percentile", 100, True),
            ("clip_rate", 1, False),
            ("weight_clip", float("inf"), True),
        ):
            if (value := getattr(self, name)) is not None:
                checks.in_range(name, value, 0, high, open_low=open_low)
        if self.clip_rate is not None and self.config.adc != "embedded":
            raise checks.UsageError(
                f"clip_rate is {self.clip_rate}, but errors are predicted for"
                " embedded converters alone; use clip_rate=None, and give fold"
                " and lsb_units."
            )

    def layout(self, shape: tuple[int, ...]) -> layout.Layout:
        """Where the weights of a kernel lie."""
        config = self.config
        return layout.plan(
            shape,
            rows=config.rows,
            columns=config.columns,
            pair="offset",
            packing=config.packing,
        )

    def program(self, key: jax.Array, w: jax.Array | Weight) -> "SramMacro":
        """Writes a weight into new macros.

        Weights are rounded to codes -n .. n, n = 2^(w_bits - 1) - 1, of which
        the largest stands for the largest weight. Pruned weights of a
        `MaskedRandom` are zeros. A `Ranged` brings the range of its inputs.

        Args:
            key: chip key, consumed.
            w: array, `MaskedRandom` or `Ranged`, [I, O] or [h, w, I, O].
        """
        self.check()
        if isinstance(w, Ranged):
            limits = w.input_range
            spec = dataclasses.replace(
                self, input_range=limits, input_percentile=None
            )
            return spec.program(key, w.weights)
        weights = w
        if isinstance(w, MaskedRandom):
            w.check()
            checks.finite("the mask", w.mask)
            weights = w.weights * w.mask
        weights = jnp.asarray(weights)
        checks.finite("the weight to program", weights)
        wide = jnp.promote_types(weights.dtype, jnp.float32)
        matrix = weights.reshape(-1, weights.shape[-1]).astype(wide)
        codes, scale = self._codes(matrix)
        shape = tuple(weights.shape)
        split = self.layout(shape).split(codes)
        drawn = cells.draw(key, split, self.config)
        return SramMacro(drawn, scale, self, shape)

    def _codes(self, matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Weights [I, O] as codes, and the weight per code, [] or [O]."""
        axis = 0 if self.scaling == "column" else None
        largest = jnp.max(jnp.abs(matrix), axis)
        if self.weight_clip is not None:
            spread = jnp.sqrt(jnp.mean(matrix**2, axis))
            largest = jnp.minimum(largest, self.weight_clip * spread)
        top = self.config.w_range[1]
        # The mapping is a decision of the programmer, not a gradient path.
        scale = jax.lax.stop_gradient(largest / top)
        safe = jnp.where(scale > 0, scale, 1)
        share = matrix / jnp.broadcast_to(safe, matrix.shape)
        share = converters.within(share, -top, top)
        return converters.straight_through(share, jnp.round(share)), scale


@pytree
class SramMacro(Weight):
    """A programmed weight.

    Attributes:
        columns: the cells, of T arrays of N rows.
        scale: weight per code, [] or [O].
        spec: the design.
        shape: of the weight, [I, O] or [h, w, I, O].
    """

    columns: Columns
    scale: jax.Array
    spec: Spec
    shape: tuple[int, ...] = static()

    by_vector = True

    @property
    def layout(self) -> layout.Layout:
        """Where the weights lie."""
        return self.spec.layout(self.shape)

    def weights(self) -> jax.Array:
        """What the codes stand for, in the shape of the weight."""
        matrix = self.layout.join(self.columns.codes)
        scale = jnp.broadcast_to(self.scale, matrix.shape)
        return (scale * matrix).reshape(self.shape)

    def multiply(
        self, x: jax.Array, product: Product, key: jax.Array | None
    ) -> jax.Array:
        del product  # Vectors meet the macro as such.
        code, step, low = self.inputs(x)
        found = self.convert(code, key)
        values = conversion.decode(
            found.code, self.columns.codes, self.spec.config
        )
        added = self.columns.codes.sum((-3, -2))
        total = values.sum(-2)
        y = step * total + low * jnp.broadcast_to(added, total.shape)
        return y * jnp.broadcast_to(self.scale, y.shape)

    def convert(
        self, code: jax.Array, key: jax.Array | None = None
    ) -> conversion.Converted:
        """Output codes of every array.

        Args:
            code: of the inputs, [..., I], from `inputs`.
            key: read key, consumed; None reads without noise.

        Returns:
            Codes, and what clips, [..., T, O].
        """
        return conversion.read(
            self.rows(code),
            self.columns,
            self.spec.config,
            key,
            path=self.spec.path,
            product=tile_matmul,
        )

    def rows(self, code: jax.Array) -> jax.Array:
        """Input codes [..., I] as they lie at the rows, [..., T, N]."""
        return self.layout.split(code[..., None])[..., 0]

    def inputs(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Inputs [..., I] as codes: x is about step * code + low.

        Returns:
            code [..., I], whole numbers of `config.x_range`; step and low, []
            or [..., 1].
        """
        spec, config = self.spec, self.spec.config
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if not config.x_signed:
            return converters.affine(x, config.x_bits, spec.input_range)
        if spec.input_range is None:
            largest = jnp.max(jnp.abs(x), -1, keepdims=True)
            largest = jax.lax.stop_gradient(largest)
        else:
            ends = [jnp.abs(jnp.asarray(end)) for end in spec.input_range]
            largest = jnp.maximum(*ends).astype(x.dtype)
        low, high = config.x_range
        step = largest / high
        safe = jnp.where(step > 0, step, 1)
        scaled = converters.within(x / safe, low, high)
        code = converters.straight_through(
            scaled, jnp.clip(jnp.round(scaled), low, high)
        )
        return code, step, jnp.zeros_like(step)

    def split(self, groups: int) -> "SramMacro":
        def every(number: ArrayLike) -> jax.Array:
            return jnp.broadcast_to(number, (groups, *jnp.shape(number)))

        def parts(a: jax.Array) -> jax.Array:
            return jnp.stack(jnp.split(a, groups, -1))

        scale = parts if jnp.ndim(self.scale) else every
        return SramMacro(
            columns=jax.tree.map(parts, self.columns),
            scale=scale(self.scale),
            spec=jax.tree.map(every, self.spec),
            shape=(*self.shape[:-1], self.shape[-1] // groups),
        )


def line_drop(leaf: SramMacro, x: jax.Array) -> jax.Array:
    """Mean drop of a line by the products of inputs [..., I], over its swing.

    Returns:
        In [0, 1] unless lines clip, [].
    """
    config = leaf.spec.config
    code, _, _ = leaf.inputs(x)
    folded = leaf.rows(code) - jnp.asarray(config.fold, code.dtype)
    lines = cells.discharge(folded, leaf.columns, config, None, tile_matmul)
    both = lines.plus + lines.minus
    return jnp.mean(both, dtype=jnp.float32) / (2 * config.swing)


def clip_rate(leaf: SramMacro, x: jax.Array) -> jax.Array:
    """Share of the conversions of inputs [..., I] that clip, in [0, 1], []."""
    code, _, _ = leaf.inputs(x)
    return jnp.mean(leaf.convert(code).clipped, dtype=jnp.float32)
