"""From input codes to output codes: successive approximation on the lines.

If every branch discharges a line by the same law dV/dt = -n I(V) / C, a line's
voltage is one monotone function of the units it has lost, whatever their order.
A comparator of two such lines therefore compares units, and so do all decisions
of a converter that discharges the same lines by the same branches: its codes do
not depend on the law, on the current or on the capacitance (sram_cim 5.1).

Letters: B batch, N rows, M columns, n steps of a conversion.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import check_key, stream
from jaxedge.hardware import sampling
from jaxedge.hardware.sram import columns as cells
from jaxedge.hardware.sram.columns import Columns, Lines
from jaxedge.hardware.sram.config import Config
from jaxedge.hardware.sram.errors import decisions
from jaxedge.hardware.weights import Product, matmul

PATHS = ("exact", "floor", "fast")
# Below it no probability of a comparison is told from 0.
_LEAST = 2.0**-24


class Converted(NamedTuple):
    """What a macro returns for some inputs.

    Attributes:
        code: whole numbers in [-2^n, 2^n - 1], [..., M].
        clipped: whether a line was at its limit, or the sum beyond all codes;
            bool, [..., M]. Their gradient is 0.
    """

    code: jax.Array
    clipped: jax.Array


def convert(
    x_int: ArrayLike,
    w_int: ArrayLike,
    config: Config,
    *,
    chip_key: jax.Array | None = None,
    read_key: jax.Array | None = None,
    path: str = "exact",
) -> jax.Array:
    """Output codes of one array of the macro.

    Args:
        x_int: input codes, whole numbers of `config.x_range`, of any dtype,
            [B, N] or [..., N].
        w_int: weight codes of `config.w_range`, [N, M], N at most
            `config.rows`.
        config: the design.
        chip_key: draws what sets this chip apart, consumed; None has no static
            errors.
        read_key: draws noise, consumed; None has none.
        path: see `read`.

    Returns:
        Whole numbers in [-2^n, 2^n - 1], n = `config.steps`, [..., M], float32.
        Where the arguments are floating the gradient passes straight through,
        as 1 / LSB of the ideal product, but where the result clips.

    Raises:
        UsageError: for codes out of range or with a fraction, more rows than
            the array has, shapes that do not fit, or a bad design.
    """
    config.check()
    x, w = _as_codes(x_int, w_int, config)
    if chip_key is not None:
        check_key(chip_key)
    columns = cells.draw(chip_key, w, config)
    return read(x, columns, config, read_key, path=path).code


def decode(code: ArrayLike, w_int: ArrayLike, config: Config) -> jax.Array:
    """The sum that a code stands for, in units of x w.

    (code + 1/2) LSB - 1/2 + fold * sum of the column's weights: the middle of
    the sums of this code, and what folding took away (sram_cim 3).

    Args:
        code: from `convert`, [..., M].
        w_int: weight codes, [..., N, M].
        config: the design.

    Returns:
        [..., M], float32.
    """
    code = jnp.asarray(code, jnp.float32)
    added = jnp.asarray(w_int, jnp.float32).sum(-2)
    lsb = jnp.asarray(config.lsb_units, jnp.float32)
    middle = (code + 0.5) * lsb - 0.5
    return middle + jnp.broadcast_to(config.fold * added, code.shape)


def _as_codes(
    x_int: ArrayLike, w_int: ArrayLike, config: Config
) -> tuple[jax.Array, jax.Array]:
    """Codes as floats, checked."""
    x, w = jnp.asarray(x_int), jnp.asarray(w_int)
    if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[0]:
        raise checks.UsageError(
            f"x_int {x.shape} and w_int {w.shape} must be [..., N] and [N, M]."
        )
    if w.shape[0] > config.rows:
        raise checks.UsageError(
            f"w_int has {w.shape[0]} rows, but the array has {config.rows};"
            " split them over arrays (sram.Spec does), or give rows="
            f"{w.shape[0]}."
        )
    _check_codes("x_int", x, *config.x_range)
    _check_codes("w_int", w, *config.w_range)
    wide = [a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in (x, w)]
    return wide[0], wide[1]


def _check_codes(name: str, a: jax.Array, low: int, high: int) -> None:
    """Raises unless all entries are whole numbers in [low, high]."""
    if not checks.concrete(a):
        return
    checks.in_range(name, a, low, high)
    numbers = np.asarray(a, np.float32)
    bad = numbers[numbers % 1 != 0]
    if bad.size:
        raise checks.UsageError(
            f"{name} holds {bad[0]}, but codes are whole numbers in"
            f" [{low}, {high}]; quantise first."
        )


def read(
    x: jax.Array,
    columns: Columns,
    config: Config,
    key: jax.Array | None,
    *,
    path: str = "exact",
    product: Product = matmul,
) -> Converted:
    """One use of a programmed array.

    Args:
        x: input codes, [..., N].
        columns: from `columns.draw`.
        config: the design.
        key: read key, consumed; None reads without noise.
        path: "exact" decides step by step, each with noise of its own law;
            "floor" divides what is on the lines by one LSB, as a converter
            without errors of its own; "fast" adds all noise as one Gaussian
            number, that of pulses with its mean over the vectors, goes through
            the same steps, and clips the sum in place of single lines (with an
            external converter it is the exact path); noise then depends a
            little on what is read together.
        product: multiplies [..., N] by [N, M].
    """
    checks.choice("path", path, PATHS)
    if key is not None:
        check_key(key)
    folded = x - jnp.asarray(config.fold, x.dtype)
    d = cells.difference(folded, columns, product)
    lsb = jnp.asarray(config.lsb_units, jnp.float32)
    if path == "fast" and config.adc == "embedded":
        found = _fast(folded, d, columns, config, key, product)
    else:
        widths = None if key is None else stream(key, "pulses")
        lines = cells.discharge(folded, columns, config, widths, product)
        converters = columns.steps, columns.offset
        found = on_lines(lines, *converters, config, key, path)
    code, clipped = jax.lax.stop_gradient(found)
    u = d / lsb
    inside = jnp.where(clipped, jax.lax.stop_gradient(u), u)
    return Converted(code + (inside - jax.lax.stop_gradient(inside)), clipped)


def on_lines(
    lines: Lines,
    steps: jax.Array,
    offset: jax.Array,
    config: Config,
    key: jax.Array | None,
    path: str = "exact",
) -> Converted:
    """Converts what is on the lines, by any path; `steps` as in `Columns`."""
    swing = config.swing
    full = (lines.plus > swing) | (lines.minus > swing)
    lsb = jnp.asarray(config.lsb_units, jnp.float32)
    # Half a unit keeps whole sums off the thresholds.
    shape = lines.plus.shape
    moved = 0.5 + lsb * jnp.broadcast_to(offset, shape)
    if key is not None:
        noise = sampling.normal_of(
            stream(key, "line"), config.sigma_line, shape
        )
        moved = moved + lsb * noise
    plus = jnp.minimum(lines.plus, swing) + moved
    minus = jnp.minimum(lines.minus, swing)
    if path != "exact" or config.adc == "external":
        code = _divided(plus, minus, config, key, path)
    else:
        decisions = None if key is None else stream(key, "decisions")
        code = _approach(plus, minus, steps, config, decisions)
    low, high = -(2.0**config.steps), 2.0**config.steps - 1
    beyond = (code < low) | (code > high)
    if path == "exact" and config.adc == "embedded":
        # Successive approximation ends at the last code by itself.
        u = (plus - minus) / lsb
        beyond = (u < low) | (u >= high + 1)
    return Converted(jnp.clip(code, low, high), full | beyond)


def _divided(
    plus: jax.Array,
    minus: jax.Array,
    config: Config,
    key: jax.Array | None,
    path: str,
) -> jax.Array:
    """Codes of a converter with equal steps, which may be beyond the last."""
    lsb = jnp.asarray(config.lsb_units, jnp.float32)
    if config.adc == "embedded":
        return jnp.floor((plus - minus) / lsb)
    # Calibrated at full scale, at the current of its calibration.
    one = jnp.ones(())
    end = _volts(config.swing, config, one) - _volts(0 * lsb, config, one)
    volts = _volts(plus, config) - _volts(minus, config)
    u = volts * (2.0**config.steps / end)
    if key is not None and path != "floor":
        noise = stream(key, "decisions")
        u = u + sampling.normal_of(noise, config.sigma_cmp, u.shape)
    return jnp.floor(u)


def _volts(
    units: jax.Array, config: Config, current: ArrayLike | None = None
) -> jax.Array:
    """How far a line has fallen; noise lifts none above its start."""
    return config.volts(jnp.maximum(units, 0), current)


@jax.jit  # All steps are one pass over the conversions.
def _approach(
    plus: jax.Array,
    minus: jax.Array,
    errors: jax.Array,
    config: Config,
    key: jax.Array | None,
) -> jax.Array:
    """Successive approximation: the higher line is discharged, n times.

    Step k takes 2^(k-1) LSB; a last comparison adds nothing or -1, so that all
    codes from -2^n to 2^n - 1 occur.

    A comparator with noise finds the positive line higher with probability
    p = Phi(difference / sigma). One uniform number decides all steps: where it
    is below p the line is higher, and what remains of its interval, stretched
    to (0, 1), is as uniform and independent for the next step as a new number.
    """
    lsb = jnp.asarray(config.lsb_units, jnp.float32)
    n, shape = config.steps, plus.shape
    noise = jnp.square(lsb * jnp.asarray(config.sigma_cmp, jnp.float32))
    quiet = noise == 0
    scale = jnp.where(quiet, 0, jax.lax.rsqrt(2 * noise))

    def positive(lines: Lines, v: Any) -> tuple[jax.Array, Any]:
        if v is None:
            if config.line_f == "linear":
                return lines.plus > lines.minus, v
            return _volts(lines.plus, config) > _volts(lines.minus, config), v
        # A monotone curve does not change which line is the higher one.
        d = lines.plus - lines.minus
        p = 0.5 + 0.5 * jax.lax.erf(scale * d)
        p = jnp.where(quiet, d > 0, p)
        high = v < p
        rest = jnp.where(high, v, v - p) / jnp.where(high, p, 1 - p)
        return high, jnp.clip(rest, _LEAST, 1 - _LEAST)

    lines, code = Lines(plus, minus), jnp.zeros(shape, jnp.float32)
    v = None if key is None else sampling.open_share(key, shape)
    for k in range(n, 0, -1):
        high, v = positive(lines, v)
        size = 2.0 ** (k - 1) * lsb
        # The line that has lost less is the higher one.
        of_plus, of_minus = (
            jnp.broadcast_to(size * (1 + side), shape) for side in errors[k - 1]
        )
        lines = Lines(
            lines.plus + jnp.where(high, 0, of_plus),
            lines.minus + jnp.where(high, of_minus, 0),
        )
        code = code + jnp.where(high, 1, -1) * 2.0 ** (k - 1)
    return code - ~positive(lines, v)[0]


def _fast(
    folded: jax.Array,
    d: jax.Array,
    columns: Columns,
    config: Config,
    key: jax.Array | None,
    product: Product,
) -> Converted:
    """A product and, of every conversion, one random number."""
    lsb = jnp.asarray(config.lsb_units, jnp.float32)
    u = (d + 0.5) / lsb + jnp.broadcast_to(columns.offset, d.shape)
    if key is not None:
        # A pulse's width counts once, whichever line it is on; all vectors
        # have as many pulses as they have in the mean.
        batch = tuple(range(folded.ndim - columns.codes.ndim + 1))
        share = jnp.mean(folded != 0, batch, dtype=d.dtype)
        adding, taking = cells.lit(columns.codes, config)
        pulses = product(share, adding + taking)
        spread = jnp.square(config.sigma_pulse / lsb) * pulses
        spread += jnp.square(config.sigma_line) + decisions(config)
        noise = sampling.draw_if(
            jnp.any(spread > 0),
            sampling.to_normal,
            stream(key, "noise"),
            d.shape,
            jnp.float32,
        )
        u = u + jnp.broadcast_to(jnp.sqrt(spread), d.shape) * noise
    low, high = -(2.0**config.steps), 2.0**config.steps - 1
    # The other line starts at zero: a line may be negative here, and bends
    # no decision.
    straight = dataclasses.replace(config, line_f="linear")
    code = _approach(lsb * u, 0 * u, columns.steps, straight, None)
    return Converted(code, (u < low) | (u >= high + 1))
