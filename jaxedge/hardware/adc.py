"""Converters with errors: successive approximation, ramp, and their spreads.

All errors are static: the chip key draws them once for every column. Codes are
those of `converters.signed`, from -n to n, n = 2^(bits-1) - 1; one LSB is
limit / n. What a paper does not tell is a labelled default of 0.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.core.trees import pytree, static
from jaxedge.hardware import sampling
from jaxedge.hardware.converters import check_bits, straight_through, within

KINDS = ("uniform", "sar", "ramp")
ROUNDING = ("nearest", "stochastic")


class Columns(NamedTuple):
    """What sets the converters of one chip apart, [..., O] each.

    Attributes:
        gain: relative error of the gain.
        offset: LSB.
        bow: largest integral non-linearity of the bow, LSB, signed.
        weights: of the capacitors of a "sar", LSB, [..., O, bits], the
            least first; None for the other kinds.
    """

    gain: jax.Array
    offset: jax.Array
    bow: jax.Array
    weights: jax.Array | None


@pytree
class Adc:
    """The converters behind the columns of an array.

    An input of u LSB is converted as u (1 + gain) + offset + bow b(u / n),
    where b(t) = (3 sqrt(3) / 2) t (1 - t^2) is 0 at both ends and at zero and
    1 at its top: the bow of an end-point fit.

    Attributes:
        gain: std of the relative gain over columns.
        offset: std of the offset over columns, LSB.
        inl: std of the bow over columns, LSB; a ramp is shared by all columns
            of a tile, and so is its bow.
        mismatch: relative std of the unit capacitor of a "sar" converter;
            2^k units in parallel have 2^(-k/2) of it. Weights are fitted to
            their ends, as the gain is calibrated apart.
        kind: "uniform" has equal steps, "sar" those of its capacitors, "ramp"
            compares with a ramp that all columns of a tile share.
        rounding: "nearest", or "stochastic": up with the probability of the
            fraction, so that the mean code is exact (a read key draws it;
            without one it rounds to the nearest).
    """

    gain: ArrayLike = 0.0
    offset: ArrayLike = 0.0
    inl: ArrayLike = 0.0
    mismatch: ArrayLike = 0.0
    kind: str = static(default="uniform")
    rounding: str = static(default="nearest")

    def check(self) -> None:
        """Raises UsageError for a value out of range or of no effect."""
        for name in ("gain", "offset", "inl", "mismatch"):
            checks.in_range(f"adc.{name}", getattr(self, name), 0)
        checks.choice("adc.kind", self.kind, KINDS)
        checks.choice("adc.rounding", self.rounding, ROUNDING)
        if self.kind == "sar":
            if self.rounding == "stochastic":
                raise checks.UsageError(
                    "adc.rounding is 'stochastic', but a 'sar' converter"
                    " decides bit by bit; use kind='uniform' or 'ramp'."
                )
        elif checks.concrete(self.mismatch) and np.any(self.mismatch):
            raise checks.UsageError(
                f"adc.mismatch is {self.mismatch}, but only a 'sar' converter"
                f" has capacitors; the kind is {self.kind!r}."
            )

    def draw(
        self, key: jax.Array, shape: tuple[int, ...], bits: int
    ) -> Columns:
        """The converters of one chip.

        Args:
            key: chip key, consumed.
            shape: of the converters, [..., O].
            bits: resolution.
        """

        def normal(name: str, shape: tuple[int, ...], std: Any) -> jax.Array:
            return std * sampling.normal(stream(key, name), shape)

        shared = (*shape[:-1], 1) if self.kind == "ramp" else shape
        weights = None
        if self.kind == "sar":
            whole = (*shape, bits)
            power = jnp.broadcast_to(2.0 ** jnp.arange(bits), whole)
            spread = self.mismatch * jnp.sqrt(power)
            drawn = normal("capacitors", whole, 1.0)
            weights = power + spread * drawn
            weights *= (2**bits - 1) / jnp.sum(weights, -1, keepdims=True)
        return Columns(
            normal("gain", shape, self.gain),
            normal("offset", shape, self.offset),
            normal("inl", shared, self.inl),
            weights,
        )

    def convert(
        self,
        x: jax.Array,
        limit: ArrayLike,
        bits: int,
        columns: Columns,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """What the codes stand for; the gradient passes inside the range.

        Args:
            x: [..., O], unit of `limit`.
            limit: largest level, at least 0, broadcastable to `x`.
            bits: resolution, at least 2.
            columns: from `draw`, broadcastable to `x`.
            key: read key of a stochastic rounding, consumed.

        Returns:
            Shape, dtype and unit of `x`.
        """
        check_bits("adc_bits", bits, 2)
        largest = 2 ** (bits - 1) - 1

        def over(a: ArrayLike) -> jax.Array:
            return jnp.broadcast_to(jnp.asarray(a, x.dtype), x.shape)

        limit = over(limit)
        step = limit / largest
        u = x / jnp.where(step > 0, step, 1)
        t = jnp.clip(u / largest, -1, 1)
        bow = over(columns.bow) * (1.5 * math.sqrt(3)) * t * (1 - t**2)
        u = u * (1 + over(columns.gain)) + over(columns.offset) + bow
        if columns.weights is not None:
            weights = [over(w) for w in jnp.moveaxis(columns.weights, -1, 0)]
            code = _approach(u + largest, weights) - largest
        elif self.rounding == "stochastic" and key is not None:
            code = jnp.floor(u + sampling.uniform(key, u.shape, u.dtype))
        else:
            code = jnp.round(u)
        code = jnp.clip(code, -largest, largest)
        return straight_through(within(x, -limit, limit), code * step)


def _approach(u: jax.Array, weights: list[jax.Array]) -> jax.Array:
    """Codes of successive approximation: keep what does not exceed `u`."""
    u = jax.lax.stop_gradient(u) + 0.5
    held, code = jnp.zeros_like(u), jnp.zeros_like(u)
    for k in reversed(range(len(weights))):
        keep = u >= held + weights[k]
        held = jnp.where(keep, held + weights[k], held)
        code = jnp.where(keep, code + 2**k, code)
    return code
