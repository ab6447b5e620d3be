"""How straight the converters of a population of columns are.

Letters: C columns, K codes, P points of a ramp.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import check_key, stream
from jaxedge.hardware.sram import columns as cells
from jaxedge.hardware.sram import conversion
from jaxedge.hardware.sram.columns import Lines
from jaxedge.hardware.sram.config import Config

# Points of the ramp in one LSB.
POINTS = 32
# Every so many points are read with noise too, which takes longest.
_NOISY = 4


class Linearity(NamedTuple):
    """Of every column, [C] where nothing else is said.

    Attributes:
        inl: integral non-linearity of every code, LSB, [C, K]: how far its
            lower end lies off the best straight line; 0 of the first code,
            which has none.
        dnl: differential non-linearity, LSB, [C, K]: width of the code's step
            less 1; those of the two end codes, which have no end, are 0.
        max_inl: largest |INL| of a column, LSB.
        max_dnl: largest |DNL| of a column, LSB.
        missing: codes that no point of the ramp has.
        one_sigma: std of the code about the ideal one, LSB, with all static
            errors and with the noise of one read, of a fourth of the points.
        offset: of the column's straight line, LSB.
        gain: of the line.
        codes: K, whole numbers.
    """

    inl: jax.Array
    dnl: jax.Array
    max_inl: jax.Array
    max_dnl: jax.Array
    missing: jax.Array
    one_sigma: jax.Array
    offset: jax.Array
    gain: jax.Array
    codes: Any

    @property
    def one_sigma_percent(self) -> jax.Array:
        """`one_sigma` in per cent of 2^n LSB, the full scale of one sign."""
        return 100 * self.one_sigma / (len(self.codes) / 2)


def characterise(config: Config, key: jax.Array, columns: int) -> Linearity:
    """Sends a ramp through the converters of a number of columns.

    The ramp rises by 1/32 LSB from the first code to the last on the positive
    line, or falls on the negative one; products have no part in it. INL is that
    of the best-fit line through the lower ends of the codes.

    Args:
        config: the design; its offset, lines and comparator count in
            `one_sigma` alone.
        key: chip key of the population, consumed.
        columns: how many, C.

    Raises:
        UsageError: for a bad design, key or number of columns.
    """
    config.check()
    check_key(key)
    checks.whole("columns", columns, 1)
    return _characterise(config, key, columns)._replace(codes=_codes(config))


def _codes(config: Config) -> np.ndarray:
    return np.arange(-(2**config.steps), 2**config.steps)


def _ramp(config: Config) -> np.ndarray:
    """Differences of the lines, LSB, [P]; none lies on a threshold."""
    codes = _codes(config)
    inside = (np.arange(POINTS) + 0.5) / POINTS
    return (codes[:, None] + inside).ravel()


@functools.partial(jax.jit, static_argnums=2)
def _characterise(config: Config, key: jax.Array, columns: int) -> Linearity:
    chip = cells.draw(stream(key, "chip"), jnp.zeros((1, columns)), config)
    ramp = _ramp(config)
    codes = jnp.asarray(_codes(config), jnp.float32)
    ideal = jnp.floor(jnp.asarray(ramp, jnp.float32))
    keys = jax.random.split(stream(key, "reads"), columns)

    def one(errors: jax.Array, offset: jax.Array, key: jax.Array) -> tuple:
        lsb = jnp.asarray(config.lsb_units, jnp.float32)
        units = jnp.asarray(ramp, jnp.float32) * lsb
        # The half unit is that of whole sums, which a ramp has not.
        plus, minus = jnp.maximum(units, 0), jnp.maximum(-units, 0)
        lines = Lines(plus - 0.5, minus)
        steps = errors[..., None]
        still = conversion.on_lines(lines, steps, 0 * offset, config, None).code
        some = jax.tree.map(lambda a: a[::_NOISY], lines)
        noisy = conversion.on_lines(some, steps, offset, config, key).code
        off = jnp.sqrt(jnp.mean(jnp.square(noisy - ideal[::_NOISY])))
        return *_straight(still, codes), off

    found = jax.lax.map(
        lambda a: one(*a),
        (jnp.moveaxis(chip.steps, -1, 0), chip.offset, keys),
    )
    inl, dnl, missing, line, off = found
    return Linearity(
        inl=inl,
        dnl=dnl,
        max_inl=jnp.abs(inl).max(-1),
        max_dnl=jnp.abs(dnl).max(-1),
        missing=missing,
        one_sigma=off,
        offset=line[:, 0],
        gain=line[:, 1],
        codes=codes,
    )


def _straight(
    found: jax.Array, codes: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """INL and DNL [K], missing codes, and the line's offset and gain [2]."""
    place = (found - codes[0]).astype(jnp.int32)
    count = jnp.zeros(len(codes)).at[place].add(1)
    inside = jnp.ones(len(codes), bool).at[jnp.array([0, -1])].set(False)
    dnl = jnp.where(inside, count / POINTS - 1, 0)
    # Where the step of a code begins, had the codes come in order.
    begin = (jnp.cumsum(count) - count) / POINTS + codes[0]
    weight = jnp.ones(len(codes)).at[0].set(0)
    n = weight.sum()
    mean_x, mean_y = (weight @ codes) / n, (weight @ begin) / n
    dx, dy = codes - mean_x, begin - mean_y
    gain = (weight @ (dx * dy)) / (weight @ (dx * dx))
    inl = weight * (dy - gain * dx)
    line = jnp.stack([mean_y - gain * mean_x, gain])
    return inl, dnl, jnp.sum(inside & (count == 0)), line
