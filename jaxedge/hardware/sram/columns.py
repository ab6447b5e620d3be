"""The cells and converters of one chip, and what its lines add up.

Letters: N rows, M columns, T arrays side by side along the rows, n steps of a
conversion.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxedge.core.keys import stream
from jaxedge.hardware.sampling import normal_of
from jaxedge.hardware.sram.config import Config
from jaxedge.hardware.weights import Product


class Columns(NamedTuple):
    """A programmed array.

    Attributes:
        plus: units that an input of 1 discharges on the line of its own sign,
            [..., N, M].
        minus: and on the other.
        codes: the weights, whole numbers, [..., N, M].
        steps: relative errors of the steps, least step first, of the line of
            the positive and of the negative sum, [n, 2, ..., M].
        offset: LSB, [..., M].
    """

    plus: jax.Array
    minus: jax.Array
    codes: jax.Array
    steps: jax.Array
    offset: jax.Array


class Lines(NamedTuple):
    """Units that two lines have lost, [..., M] each."""

    plus: jax.Array
    minus: jax.Array


def branches(
    codes: jax.Array, config: Config
) -> list[tuple[jax.Array, jax.Array]]:
    """Which branches conduct: of every bit, those that add and subtract.

    Returns:
        0 or 1, [..., N, M] each; branch b is one of 2^b units.
    """
    # Bit by bit: XLA on CPU has summed a stack of bits over its first axis
    # from memory that it never wrote (0.10.2, shapes [b, 1, N, M]).
    whole = jax.lax.stop_gradient(codes).astype(jnp.int32)
    zero = jnp.zeros_like(codes)
    if config.w_code == "sign_magnitude":
        bits, negative = config.w_bits - 1, whole < 0
        planes = [(jnp.abs(whole) >> b) & 1 for b in range(bits)]
        lit = [plane.astype(codes.dtype) for plane in planes]
        return [
            (jnp.where(negative, 0, p), jnp.where(negative, p, 0)) for p in lit
        ]
    planes = [(whole >> b) & 1 for b in range(config.w_bits)]
    lit = [plane.astype(codes.dtype) for plane in planes]
    return [*((p, zero) for p in lit[:-1]), (zero, lit[-1])]


def lit(codes: jax.Array, config: Config) -> tuple[jax.Array, jax.Array]:
    """How many branches add and how many subtract, [..., N, M]."""
    plus, minus = zip(*branches(codes, config), strict=True)
    return functools.reduce(jnp.add, plus), functools.reduce(jnp.add, minus)


def draw(key: jax.Array | None, codes: jax.Array, config: Config) -> Columns:
    """Programs weights onto the cells of a chip.

    Args:
        key: chip key, consumed; None has no static errors.
        codes: whole numbers, floating point, [..., N, M]; a gradient passes
            through to them.
        config: the design.
    """
    *lead, _, columns = codes.shape
    planes = branches(codes, config)
    sizes: list[Any] = [2.0**b for b in range(len(planes))]
    steps = (config.steps, 2, *lead, columns)
    ends = (*lead, columns)
    if key is None:
        errors, offset = jnp.zeros(steps), jnp.zeros(ends)
    else:
        shape = (len(planes), *codes.shape)
        spread = normal_of(stream(key, "branches"), config.sigma_cell, shape)
        spread = spread.astype(codes.dtype)
        sizes = [size * (1 + spread[b]) for b, size in enumerate(sizes)]
        each = 1 / jnp.sqrt(jnp.asarray(config.cells(), jnp.float32))
        errors = normal_of(stream(key, "steps"), config.sigma_cell, steps)
        errors = errors * each.reshape(-1, *(1,) * (len(steps) - 1))
        offset = normal_of(stream(key, "offset"), config.sigma_off, ends)
    plus = minus = jnp.zeros_like(codes)
    for size, (adding, taking) in zip(sizes, planes, strict=True):
        plus, minus = plus + size * adding, minus + size * taking
    # Whatever cells do, the slope of a weight is that of the ideal product.
    through = codes - jax.lax.stop_gradient(codes)
    return Columns(plus + through, minus, codes, errors, offset)


def difference(x: jax.Array, columns: Columns, product: Product) -> jax.Array:
    """What the two lines differ by, units: inputs [..., N], as [..., M]."""
    return product(x, columns.plus - columns.minus)


def discharge(
    x: jax.Array,
    columns: Columns,
    config: Config,
    key: jax.Array | None,
    product: Product,
) -> Lines:
    """What the products take from the two lines, before these clip, units.

    S+ = sum of the positive products, S- of the negative ones: from the sum
    over x' (plus - minus) and that over |x'| (plus + minus), two products in
    place of four.

    Args:
        x: folded inputs, [..., N].
        columns: the cells.
        config: the design.
        key: read key of the widths of the pulses, consumed, or None.
        product: multiplies [..., N] by [N, M].
    """
    d = difference(x, columns, product)
    total = product(jnp.abs(x), columns.plus + columns.minus)
    plus, minus = (total + d) / 2, (total - d) / 2
    if key is None:
        return Lines(plus, minus)
    adding, taking = lit(columns.codes, config)
    pulses = product((x != 0).astype(d.dtype), adding + taking)
    more = product(jnp.sign(x), adding - taking)
    noise = normal_of(key, config.sigma_pulse, (2, *d.shape))
    counts = (pulses + more) / 2, (pulses - more) / 2
    counts = jax.lax.stop_gradient(counts)
    return Lines(
        plus + jnp.sqrt(counts[0]) * noise[0],
        minus + jnp.sqrt(counts[1]) * noise[1],
    )
