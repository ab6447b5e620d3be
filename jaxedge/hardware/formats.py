"""Number formats of weights and inputs by the terms of the field.

"nvfp4", "mxfp4" and so on have blocks with scales of their own along the
inputs; "fp4_e2m1", "int4" and so on a scale for each vector or for a tensor.
int8 is symmetric: its codes are -127 to 127.

Letters: I inputs, O outputs.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.hardware import converters
from jaxedge.quantize import blocks, layer, minifloat
from jaxedge.quantize.blocks import Blocks, Packed
from jaxedge.quantize.layer import Rows
from jaxedge.quantize.minifloat import Format

OVER = ("vector", "tensor")
_E4M3 = Format(4, 3)
# A block of OCP MX whose numbers are float8_e4m3fn.
MXFP8 = Blocks(_E4M3, 32, "e8m0")
# Equal steps have one bit of exponent, floating-point numbers 2 to 5.
_INTEGERS = {f"int{bits}": Format(1, bits - 2) for bits in range(2, 9)}
_FLOATS = {
    f"fp{bits}_{form.name}": form
    for bits in range(3, 9)
    for form in minifloat.formats(bits)[1:5]
}
FORMATS: dict[str, Blocks | Format] = {
    **blocks.NAMED,
    "mxfp8_e4m3": MXFP8,
    **_INTEGERS,
    **_FLOATS,
}
# The part of the codes that OCP's 8-bit formats have, the highest of which are
# no numbers: up to 448 of 480, and 57344 of 114688 (OCP 8-bit floating point
# specification 1.0, 2023).
_PART = {"fp8_e4m3": 448 / 480, "fp8_e5m2": 0.5}


def of(name: str) -> Blocks | Format:
    """The format `name`, a key of `FORMATS`.

    Raises:
        UsageError: for a name that is none.
    """
    if name not in FORMATS:
        raise checks.unknown("number format", name, FORMATS)
    return FORMATS[name]


def bits(name: str) -> int:
    """Bits of a number of a format, without any scale."""
    found = of(name)
    return found.format.bits if isinstance(found, Blocks) else found.bits


def in_blocks(name: str) -> bool:
    """Whether a format has scales for blocks."""
    return isinstance(of(name), Blocks)


def stored_bits(name: str, inputs: int, outputs: int, over: str) -> int:
    """Bits of a matrix [inputs, outputs], with its scales.

    Args:
        name: of the format.
        inputs: I.
        outputs: O.
        over: see `round_weights`.
    """
    found = of(name)
    if isinstance(found, Format):
        scales = outputs if over == "vector" else 1
        return inputs * outputs * found.bits + 32 * scales
    count = outputs * math.ceil(inputs / found.size)
    whole = 32 if found.scale == "e4m3" else 0
    return round(count * found.size * found.bits_per_weight) + whole


def round_inputs(x: jax.Array, name: str, over: str) -> jax.Array:
    """Vectors in a format, by scales of the moment.

    The largest number of a vector is on the largest code; blocks have the
    scales of their format. The gradient passes straight through where nothing
    is clipped.

    Args:
        x: [..., I], floating point.
        name: of the format.
        over: "vector" gives each its own scale, so that a result does not
            depend on its neighbours, to formats with blocks the scale of the
            whole (that of "nvfp4"); "tensor" has one for all vectors of a
            call, as the definition of NVFP4.

    Returns:
        Float32, shape of `x`.
    """
    checks.choice("over", over, OVER)
    x, found = x.astype(jnp.float32), of(name)
    if isinstance(found, Format):
        return _by_largest(x, found, name, over)
    x = _in_reach(x, found)
    if over == "tensor" or found.scale != "e4m3":
        return blocks.fake_quant(x, found)
    flat = x.reshape(-1, x.shape[-1])
    value = jax.vmap(lambda x_I: blocks.fake_quant(x_I, found))(flat)
    return value.reshape(x.shape)


def round_weights(w: jax.Array, name: str, over: str) -> jax.Array:
    """A matrix in a format, with gradients as those of `round_inputs`.

    Args:
        w: [I, O], floating point.
        name: of the format.
        over: "vector" has a scale for each output, "tensor" one for all.
            Blocks lie along the inputs, and have one scale of the whole.

    Returns:
        Float32 [I, O].
    """
    checks.choice("over", over, OVER)
    w, found = w.T.astype(jnp.float32), of(name)
    if isinstance(found, Format):
        return _by_largest(w, found, name, over).T
    return blocks.fake_quant(_in_reach(w, found), found).T


def pack_weights(w: jax.Array, name: str, over: str) -> Rows | Packed:
    """The values of `round_weights` in real bytes, without a gradient."""
    checks.choice("over", over, OVER)
    w, found = w.astype(jnp.float32), of(name)
    if isinstance(found, Blocks):
        return blocks.pack(_in_reach(w.T, found), found)
    scale = _scale(w.T, found, name, over)
    return layer.rows(w, found, jnp.broadcast_to(scale[:, 0], w.shape[1:]))


def unpack_weights(coded: Rows | Packed) -> jax.Array:
    """The values of `pack_weights`, float32 [I, O]."""
    values = coded.values if isinstance(coded, Rows) else blocks.unpack(coded)
    return values.T


def split_packed(coded: Any, groups: int) -> Any:
    """Bytes of the outputs in equal parts, with a leading axis [groups]."""

    def parts(a: jax.Array) -> jax.Array:
        if not a.ndim:  # The scale of the whole.
            return jnp.broadcast_to(a, (groups,))
        return jnp.stack(jnp.split(a, groups))

    return jax.tree.map(parts, coded)


def _by_largest(
    x: jax.Array, format: Format, name: str, over: str
) -> jax.Array:
    scale = _scale(x, format, name, over)
    # Nothing is clipped: the last bit of a quotient must not tell otherwise.
    value = minifloat.to_values(jax.lax.stop_gradient(x), format, scale)
    return converters.straight_through(x, value)


def _scale(x: jax.Array, format: Format, name: str, over: str) -> jax.Array:
    """Scales that put the largest number on the largest code, [..., 1]."""
    size = jnp.abs(jax.lax.stop_gradient(x))
    most = jnp.max(size, -1 if over == "vector" else None, keepdims=True)
    return minifloat.scale_of(format, most / _PART.get(name, 1))


def _in_reach(x: jax.Array, found: Blocks) -> jax.Array:
    """Numbers as far as the codes of a block go, where some are no numbers."""
    if found.format != _E4M3:
        return x
    parts = blocks.split(jnp.abs(jax.lax.stop_gradient(x)), found.size)
    most = jnp.max(parts, -1, keepdims=True)
    # The scale is a power of two, with which codes end at 448 of 512.
    exponent = jax.lax.bitcast_convert_type(most, jnp.int32) & 0x7F800000
    limit = 1.75 * jax.lax.bitcast_convert_type(exponent, jnp.float32)
    limit = jnp.broadcast_to(limit, parts.shape)
    limit = limit.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]
    return converters.within(x, -limit, limit)
