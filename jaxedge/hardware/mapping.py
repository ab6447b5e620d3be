"""From weights to conductances: pairs, offsets, levels, slices.

Letters: I inputs, O outputs, S slices, P cells of a slice.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxedge.hardware.converters import straight_through, within
from jaxedge.hardware.devices import Device

SCALES = ("array", "column")


class Mapped(NamedTuple):
    """Weights as conductances: w = scale (sum_s power_s (sum_p +- G) - origin).

    Attributes:
        target: S, [P, I, O], or [S, P, I, O] with slices.
        scale: weight per siemens of the least slice, [] or [O].
        origin: conductance that stands for no weight, S, []; 0 for pairs.
    """

    target: jax.Array
    scale: jax.Array
    origin: ArrayLike


def slices(weight_bits: int | None, slice_bits: int | None, pair: str) -> int:
    """S: how many cells share the bits of a weight; the sign is a pair's."""
    if weight_bits is None or slice_bits is None:
        return 1
    bits = weight_bits if pair == "offset" else weight_bits - 1
    return -(-bits // slice_bits)


def levels(weight_bits: int | None, slice_bits: int | None, pair: str) -> int:
    """The highest level of a cell, its lowest being 0; 1 where continuous."""
    if weight_bits is None:
        return 1
    if slice_bits is not None:
        return 2**slice_bits - 1
    largest = 2 ** (weight_bits - 1) - 1
    return 2 * largest if pair == "offset" else largest


def map_weights(
    matrix: jax.Array,
    device: Device[Any],
    *,
    pair: str = "interleaved",
    scaling: str = "array",
    clip: ArrayLike | None = None,
    weight_bits: int | None = None,
    slice_bits: int | None = None,
) -> Mapped:
    """Targets of the cells that hold a matrix.

    Args:
        matrix: weights, [I, O], float32 or wider.
        device: whose range is filled.
        pair: "offset" has one cell a weight, w = 0 in the middle of its
            range; the others are pairs, w = 0 at the lower end of both.
        scaling: "array" has one scale, "column" one for each output.
        clip: largest weight in root mean squares of the array (or column),
            its spread about no weight; larger ones are clipped before they are
            scaled. None clips none.
        weight_bits: weights are rounded to 2^weight_bits - 1 levels, one of
            them 0; None is continuous.
        slice_bits: bits of one cell; the slices of a weight are digits in
            base 2^slice_bits, the least first. None puts all bits in one.

    Returns:
        Targets in [g_min, g_max]; their gradient is that of the weights.
    """
    # The mapping is a decision of the programmer, not a gradient path.
    frozen = jax.lax.stop_gradient(matrix)
    axis = 0 if scaling == "column" else None
    if clip is not None:
        limit = clip * jnp.sqrt(jnp.mean(frozen**2, axis, keepdims=True))
        matrix = within(matrix, -limit, limit)
        frozen = jax.lax.stop_gradient(matrix)
    by_column = jax.vmap(device.weight_scale, 1)
    scale = (by_column if axis == 0 else device.weight_scale)(frozen)
    span = jnp.subtract(device.g_max, device.g_min)
    if weight_bits is None:
        if pair == "offset":
            share = matrix / jnp.broadcast_to(2 * scale, matrix.shape)
            middle = device.g_min + span / 2
            return _held(share[None] + span / 2, 2 * scale, middle, device)
        share = matrix / jnp.broadcast_to(scale, matrix.shape)
        return _held(_signs(share), scale, 0.0, device)

    largest = 2 ** (weight_bits - 1) - 1
    step = scale * span / largest
    share = matrix / jnp.broadcast_to(step, matrix.shape)
    code = jnp.clip(jnp.round(share), -largest, largest)
    code = straight_through(share, code)
    parts = code[None] + largest if pair == "offset" else _signs(code)
    count = slices(weight_bits, slice_bits, pair)
    if slice_bits is not None and count > 1:
        parts = _digits(parts, slice_bits, count)
    unit = span / levels(weight_bits, slice_bits, pair)
    origin = 0.0
    if pair == "offset":
        powers = sum(2 ** ((slice_bits or 0) * s) for s in range(count))
        origin = device.g_min * powers + largest * unit
    return _held(parts * unit, step / unit, origin, device)


def _held(
    parts: jax.Array, scale: jax.Array, origin: ArrayLike, device: Device[Any]
) -> Mapped:
    target = device.g_min + parts
    # Rounding may lift the largest above the range, where no slope is.
    target = straight_through(target, jnp.minimum(target, device.g_max))
    return Mapped(target, scale, origin)


def _signs(matrix: jax.Array) -> jax.Array:
    """What the cells of a pair hold: [2, I, O]."""
    return jnp.stack([jnp.maximum(matrix, 0), jnp.maximum(-matrix, 0)])


def _digits(code: jax.Array, bits: int, count: int) -> jax.Array:
    """Digits in base 2^bits, least first; their weighted sum has the slope."""
    whole = jnp.round(jax.lax.stop_gradient(code)).astype(jnp.int32)
    digits = [
        straight_through(
            code / (count * 2 ** (bits * s)),
            ((whole >> (bits * s)) & (2**bits - 1)).astype(code.dtype),
        )
        for s in range(count)
    ]
    return jnp.stack(digits)
